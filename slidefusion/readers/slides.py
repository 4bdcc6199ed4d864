"""One slide file a plane, as a list, glob or folder, in any format that tiffslide opens."""

from __future__ import annotations

import warnings
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError, ReaderError, StackError
from slidefusion.geometry import Size, Window
from slidefusion.omezarr.store import is_url
from slidefusion.readers.base import Source, check_dtype, new_opening, reopen
from slidefusion.readers.order import gap_in
from slidefusion.readers.pixels import drop_alpha
from slidefusion.readers.planes import all_alike
from slidefusion.readers.sources import describe, kind, plane_files, public_name
from slidefusion.readers.tifflayout import check_nothing_left, choose_series, layout_of, open_tiff
from slidefusion.readers.tiffmeta import physical
from slidefusion.readers.tiffpages import check_coding
from slidefusion.stack_shape import default_names

__all__ = ["SlidesReader"]


class SlidesReader:
    """Slides of one plane each, read through tiffslide at level 0.

    Planes are in the order of the list, or of the numbers in the file names. Positions are known
    only when every file states its own (NDPI, OME-TIFF) and they ascend.

    Args:
        source: paths or URLs, a glob, or a folder.
    """

    name: ClassVar[str] = "slides"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether ``source`` is several TIFF files (or a Leica SCN file)."""
        if not isinstance(source, str) and any(is_url(str(path)) for path in source):
            return True
        if isinstance(source, str) and Path(source).is_file():
            return kind(source) == "tiff" and source.lower().endswith(".scn")
        return kind(plane_files(source)[0][0]) == "tiff"

    def __init__(self, source: Source):
        files, order = plane_files(source)
        self._source = source if isinstance(source, str) else tuple(source)
        self._opening = new_opening()
        self._slides: list[Any] = []
        # A reader that is let go of closes its files, like one that fails to open.
        self._close = weakref.finalize(self, _close_all, self._slides)
        planes = []
        for path in files:
            slide, plane = _open(path)
            self._slides.append(slide)
            planes.append(plane)
        all_alike("size", files, [f"{p.height} x {p.width} px" for p in planes])
        all_alike("type of values", files, [p.dtype.name for p in planes])
        all_alike("number of channels", files, [p.samples for p in planes])
        all_alike("colours", files, [p.photometric for p in planes])
        all_alike("pixel size", files, [p.pixel_size_um for p in planes])
        first = planes[0]
        self._files = files
        self.gap = gap_in(files)
        """Where the numbers in the names of the files skip some, which are planes missing."""
        self._alpha = first.alpha
        channels = first.samples - first.alpha
        self.shape = (channels, len(files), first.height, first.width)
        self.dtype = first.dtype
        self.pixel_size_um = first.pixel_size_um
        positions = [p.z_um for p in planes if p.z_um is not None]
        ascend = all(a < b for a, b in pairwise(positions))
        stated = len(positions) == len(planes) > 1
        self.z_um = tuple(positions) if stated and ascend else None
        self.is_rgb = channels == 3 and first.photometric in ("RGB", "YCBCR")
        self.channel_names = default_names(channels, self.is_rgb)
        self.tile: Size = first.tile
        self.provenance = _provenance(files, order, first.format)
        if stated and not ascend:
            self.provenance["positions_not_used_um"] = positions

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of plane ``z`` as an array (C, h, w).

        Raises:
            ProcessingError: the bytes there cannot be read or decoded.
            StackError: the pictures have an alpha channel that is not opaque.
        """
        try:
            data = self._slides[z].read_region(
                (window.x, window.y), 0, (window.width, window.height), as_array=True, padding=False
            )
        except Exception as error:  # codecs and stores each have exceptions of their own
            raise ProcessingError(
                f"plane {z}, y {window.y}-{window.bottom}, x {window.x}-{window.right} of "
                f"{public_name(self._files[z])} cannot be read: {type(error).__name__}: {error}; "
                "the file is damaged: copy it again"
            ) from error
        image = np.ascontiguousarray(data.transpose(2, 0, 1), dtype=self.dtype)
        return drop_alpha(image, public_name(self._files[z])) if self._alpha else image

    def close(self) -> None:
        """Close the files."""
        self._close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (SlidesReader, self._source, (), self._opening)


class _Plane:
    """What one file says of itself."""

    def __init__(self, slide: Any, path: str) -> None:
        with open_tiff(path) as (tif, log):
            with warnings.catch_warnings():
                # tiffslide warns that it parses little of NDPI and BIF metadata; what is missing
                # is read here.
                warnings.simplefilter("ignore")
                properties = slide.properties
            number = properties["tiffslide.series-index"]
            series = tif.series[number]
            composed = properties.get("tiffslide.series-composition")
            if not composed:
                chosen = choose_series(tif, None)
                layout = layout_of(tif, chosen, None)
                if chosen is not series or layout.planes > 1:
                    raise ReaderError(
                        f"{public_name(path)} holds {layout.planes} planes where one file a plane "
                        "is expected: pass that file alone"
                    )
                check_nothing_left(tif, chosen, layout, log)
            coding = series.keyframe
            check_coding(series, coding, path)
            facts = physical(tif, series, 1, [series.pages[0]])
            self.format = series.kind
            self.width, self.height = slide.dimensions
            self.dtype = check_dtype(coding.dtype, public_name(path))
            self.samples = int(coding.shaped[0] * coding.shaped[4])
            self.alpha = int(bool(coding.extrasamples) and int(coding.extrasamples[-1]) in (1, 2))
            self.photometric = getattr(coding.photometric, "name", "")
            x, y = (properties.get(f"tiffslide.mpp-{axis}") for axis in "xy")
            plausible = x and y and composed
            stated = (float(y), float(x)) if plausible else None
            self.pixel_size_um = facts.pixel_size_um or stated
            self.z_um = facts.z_um[0] if facts.z_um else None
            if coding.is_tiled:
                self.tile = Size(int(coding.tilelength), int(coding.tilewidth))
            else:
                self.tile = Size(min(int(coding.rowsperstrip), self.height), self.width)


def _open(path: str) -> tuple[Any, _Plane]:
    import tiffslide

    # Opened here first, so that a file of another kind gets its own message.
    with open_tiff(path):
        pass
    slide: Any = None
    try:
        slide = tiffslide.TiffSlide(path)
        return slide, _Plane(slide, path)
    except (ReaderError, StackError):
        _close_all([slide])
        raise
    except Exception as error:  # NotImplementedError for axes, and whatever a damaged file causes
        _close_all([slide])
        raise ReaderError(
            f"{public_name(path)} cannot be opened by tiffslide as a slide of one plane: "
            f"{type(error).__name__}: {error}; if it holds several planes, pass it alone"
        ) from error


def _close_all(slides: list[Any]) -> None:
    for slide in slides:
        if slide is not None:
            slide.close()


def _provenance(files: list[str], order: str, format_name: str) -> dict[str, Any]:
    import tifffile
    import tiffslide

    return {
        "reader": SlidesReader.name,
        "format": format_name,
        "files": describe(files),
        "order": order,
        "versions": {
            "tiffslide": getattr(tiffslide, "__version__", "unknown"),
            "tifffile": tifffile.__version__,
        },
    }
