"""One slide file a plane, as a list, glob or folder: each like a stack of one plane."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError, ReaderError, SlidefusionError, StackError
from slidefusion.geometry import Size, Window
from slidefusion.omezarr.store import is_url
from slidefusion.readers.base import Source, check_dtype, new_opening, reopen
from slidefusion.readers.order import gap_in
from slidefusion.readers.pixels import drop_alpha
from slidefusion.readers.planes import all_alike
from slidefusion.readers.sources import describe, kind, plane_files, public_name
from slidefusion.readers.tiff import TiffReader
from slidefusion.readers.tiffmeta import physical
from slidefusion.readers.tiffopen import is_scan, open_tiff
from slidefusion.readers.tiffpages import check_coding
from slidefusion.stack_shape import default_names

__all__ = ["SlidesReader"]


class SlidesReader:
    """Slides of one plane each: TIFF files of any kind, or Leica SCN files.

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
            return kind(source) == "tiff" and source.lower().endswith(".scn") and is_scan(source)
        return kind(plane_files(source)[0][0]) == "tiff"

    def __init__(self, source: Source):
        files, order = plane_files(source)
        self._source = source if isinstance(source, str) else tuple(source)
        self._opening = new_opening()
        planes: list[TiffReader | _Scan] = []
        # A reader that is let go of closes its files, like one that fails to open.
        self._close = weakref.finalize(self, _close_all, planes)
        for path in files:
            planes.append(_Scan(path) if is_scan(path) else _one_plane(path))
        all_alike("size", files, [f"{p.shape[2]} x {p.shape[3]} px" for p in planes])
        all_alike("type of values", files, [p.dtype.name for p in planes])
        all_alike("number of channels", files, [p.shape[0] for p in planes])
        all_alike("colours", files, [p.photometric for p in planes])
        all_alike("pixel size", files, [p.pixel_size_um for p in planes])
        first = planes[0]
        self._planes = planes
        self.gap = gap_in(files)
        """Where the numbers in the names of the files skip some, which are planes missing."""
        channels, _, height, width = first.shape
        self.shape = (channels, len(files), height, width)
        self.dtype = first.dtype
        self.pixel_size_um = first.pixel_size_um
        positions = [p.z_um[0] for p in planes if p.z_um is not None]
        ascend = all(a < b for a, b in pairwise(positions))
        stated = len(positions) == len(planes) > 1
        self.z_um = tuple(positions) if stated and ascend else None
        self.is_rgb = first.is_rgb
        alike = all(p.channel_names == first.channel_names for p in planes)
        own = first.channel_names if alike else ()
        self.channel_names = own or default_names(channels, self.is_rgb)
        self.looks = first.looks if all(p.looks == first.looks for p in planes) else ()
        """How each channel is shown, if all files say the same of it."""
        self.tile: Size = first.tile
        self.provenance: dict[str, Any] = {
            "reader": self.name,
            "format": first.provenance["format"],
            "files": describe(files),
            "order": order,
            "versions": first.provenance["versions"],
        }
        if stated and not ascend:
            self.provenance["positions_not_used_um"] = positions

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of plane ``z`` as an array (C, h, w).

        Raises:
            ProcessingError: the bytes there cannot be read or decoded.
            StackError: the pictures have an alpha channel that is not opaque.
        """
        return self._planes[z].read(0, window)

    def close(self) -> None:
        """Close the files."""
        self._close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (SlidesReader, self._source, (), self._opening)


def _one_plane(path: str) -> TiffReader:
    try:
        opened = TiffReader(path)
    except StackError as error:
        raise StackError(
            f"{error}. (Of files of one plane each; with axes= or series= pass that file alone)"
        ) from error
    if opened.shape[1] > 1:
        opened.close()
        raise ReaderError(
            f"{public_name(path)} holds {opened.shape[1]} planes where one file a plane is "
            "expected: pass that file alone"
        )
    return opened


class _Scan:
    """A Leica SCN file of one plane, whose scan areas tiffslide puts together."""

    z_um: tuple[float, ...] | None = None
    looks: tuple[dict[str, Any], ...] = ()

    def __init__(self, path: str) -> None:
        import tiffslide

        self._path = path
        # Opened here first, so that a file of another kind gets its own message.
        with open_tiff(path) as (tif, _):
            self._slide: Any = None
            try:
                self._slide = tiffslide.TiffSlide(path)
                self._look_at(tif)
            except SlidefusionError:
                self.close()
                raise
            except Exception as error:  # whatever a damaged file causes
                self.close()
                raise ReaderError(
                    f"{public_name(path)} cannot be opened by tiffslide as a slide of one plane: "
                    f"{type(error).__name__}: {error}"
                ) from error

    def _look_at(self, tif: Any) -> None:
        import tifffile
        import tiffslide

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that little of some metadata is parsed
            properties = self._slide.properties
        if not properties.get("tiffslide.series-composition"):
            raise ReaderError(f"{public_name(self._path)} does not say where its scan areas lie")
        series = tif.series[properties["tiffslide.series-index"]]
        coding = series.keyframe
        check_coding(series, coding, self._path)
        width, height = self._slide.dimensions
        samples = int(coding.shaped[0] * coding.shaped[4])
        self._alpha = int(bool(coding.extrasamples) and int(coding.extrasamples[-1]) in (1, 2))
        self.shape = (samples - self._alpha, 1, height, width)
        self.dtype = check_dtype(coding.dtype, public_name(self._path))
        self.photometric = getattr(coding.photometric, "name", "")
        self.is_rgb = self.shape[0] == 3 and self.photometric in ("RGB", "YCBCR")
        self.channel_names = default_names(self.shape[0], self.is_rgb)
        x, y = (properties.get(f"tiffslide.mpp-{axis}") for axis in "xy")
        stated = (float(y), float(x)) if x and y else None
        self.pixel_size_um = physical(tif, series, 1, [series.pages[0]]).pixel_size_um or stated
        if coding.is_tiled:
            self.tile = Size(int(coding.tilelength), int(coding.tilewidth))
        else:
            self.tile = Size(min(int(coding.rowsperstrip), height), width)
        self.provenance = {
            "format": series.kind,
            "versions": {
                "tiffslide": getattr(tiffslide, "__version__", "unknown"),
                "tifffile": tifffile.__version__,
            },
        }

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` as an array (C, h, w); ``z`` is 0."""
        try:
            data = self._slide.read_region(
                (window.x, window.y), 0, (window.width, window.height), as_array=True, padding=False
            )
        except MemoryError:
            raise
        except Exception as error:  # codecs and stores each have exceptions of their own
            raise ProcessingError(
                f"y {window.y}-{window.bottom}, x {window.x}-{window.right} of "
                f"{public_name(self._path)} cannot be read: {type(error).__name__}: {error}; "
                "the file is damaged: copy it again"
            ) from error
        image = np.ascontiguousarray(data.transpose(2, 0, 1), dtype=self.dtype)
        return drop_alpha(image, public_name(self._path)) if self._alpha else image

    def close(self) -> None:
        if self._slide is not None:
            self._slide.close()


def _close_all(planes: Sequence[TiffReader | _Scan]) -> None:
    for plane in planes:
        plane.close()
