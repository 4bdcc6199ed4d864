"""Multi-plane TIFF files: OME-TIFF, ImageJ and plain stacks, Aperio SVS, Hamamatsu NDPI."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, ProcessingError, ReaderError, UnknownNameError
from slidefusion.geometry import Size, Window, as_whole
from slidefusion.omezarr.store import is_url
from slidefusion.readers.base import Source, check_dtype, new_opening, reopen
from slidefusion.readers.pixels import drop_alpha
from slidefusion.readers.sources import describe, kind, plane_files, public_name, single
from slidefusion.readers.tifflayout import check_nothing_left, choose_series, layout_of
from slidefusion.readers.tiffmeta import physical
from slidefusion.readers.tiffopen import is_scan, open_tiff
from slidefusion.readers.tiffpages import ByteFile, pages_of
from slidefusion.stack_shape import default_names

__all__ = ["TiffReader"]

_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".btf", ".tf8", ".bif", ".avs")


class TiffReader:
    """One file that holds all planes as TIFF pages.

    Planes are given in ascending order of position when the file states positions (NDPI stores the
    middle one first), else in the order of the file.

    Args:
        source: path or URL.
        series: number of the series that is the stack, where the file holds several.
        axes: names of the axes where the file has none, such as ``"ZCYX"``.
    """

    name: ClassVar[str] = "tiff"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether ``source`` is one TIFF file."""
        path = single(source)
        if path is None:
            return False
        if is_url(path):
            return path.lower().split("?")[0].endswith(_SUFFIXES)
        if not Path(path).is_file() or kind(path) != "tiff":
            return False
        return not (path.lower().endswith(".scn") and is_scan(path))  # another reader's

    def __init__(self, source: Source, *, series: int | None = None, axes: str | None = None):
        path = single(source)
        if path is None:
            raise UnknownNameError(f"the tiff reader opens one file, not {len(source)}")
        number = None if series is None else as_whole(series)
        if (number is None) != (series is None) or not isinstance(axes, str | None):
            raise OptionError(
                f"series={series!r}, axes={axes!r}: give the number of a series, and the names of "
                "its axes as text like 'ZCYX'"
            )
        if not is_url(path):
            path = plane_files(path)[0][0]
        self._source = path
        self._opening = new_opening()
        self._options = (("axes", axes), ("series", number))
        self._files: dict[str, ByteFile] = {}
        with open_tiff(path) as (tif, log):
            chosen = choose_series(tif, number)
            layout = layout_of(tif, chosen, axes)
            check_nothing_left(tif, chosen, layout, log)
            pages = pages_of(chosen, path, self._files, split=layout.split > 1)
            if len(pages) != layout.planes * layout.page_channels:
                raise ReaderError(
                    f"{public_name(path)} has {len(pages)} pages for {layout.planes} planes"
                )
            coding = chosen.keyframe
            coding.decode  # noqa: B018 - made once, here, not by every thread
            order_of_pages = layout.order()
            numbers = [row[0] // layout.split for row in order_of_pages]
            told = chosen.kind in ("ndpi", "svs")  # by each plane's page where it lies
            first = [chosen.pages[number].aspage() for number in numbers] if told else []
            facts = physical(tif, chosen, layout.planes, first)
            left_out = [s.name for s in tif.series if s is not chosen and s.name]
        order = list(range(layout.planes))
        z_um = facts.z_um
        if z_um is not None:
            order.sort(key=z_um.__getitem__)
            z_um = tuple(z_um[k] for k in order)
        self._planes = [[pages[number] for number in order_of_pages[k]] for k in order]
        page = pages[0]
        # Where the file calls its samples channels ("C"), none of them is an alpha.
        extra = int(coding.extrasamples[-1]) if coding.extrasamples else 0
        self._alpha = "S" in layout.axes and layout.split == 1 and extra in (1, 2)
        samples = page.samples - self._alpha
        height, width = page.size
        channels = layout.page_channels * samples
        self.shape = (channels, layout.planes, height, width)
        self.dtype = check_dtype(coding.dtype, public_name(path))
        self.pixel_size_um = facts.pixel_size_um
        self.z_um = z_um
        self.photometric: str = getattr(coding.photometric, "name", "")
        """What the values of the pictures mean, in TIFF's words."""
        self.is_rgb = channels == samples == 3 and self.photometric in ("RGB", "YCBCR")
        named = facts.channel_names if len(facts.channel_names) == channels else ()
        self.channel_names = named or default_names(channels, self.is_rgb)
        own = facts.colours if len(facts.colours) == channels and not self.is_rgb else ()
        looks: list[dict[str, Any]] = [{} if c is None else {"color": c} for c in own]
        if self.photometric == "MINISWHITE":  # the values stay as they are
            looks = [{**look, "inverted": True} for look in looks or [{}] * channels]
        self.looks = tuple(looks)
        """How each channel is shown, if the file says so."""
        self.tile: Size = page.tile
        self.provenance = _provenance(self._files, chosen.kind, layout.axes, order, left_out, log)

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of plane ``z`` as an array (C, h, w).

        Raises:
            ProcessingError: the bytes there cannot be read or decoded.
            StackError: the pictures have an alpha channel that is not opaque.
        """
        parts = []
        for page in self._planes[z]:
            if page.size != self.shape[2:]:
                raise ProcessingError(f"{self._what(z)} differs in size")
            part = np.empty((page.samples, window.height, window.width), self.dtype)
            page.read(window, part)
            parts.append(drop_alpha(part, self._what(z)) if self._alpha else part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _what(self, z: int) -> str:
        name = public_name(self._source)
        return f"plane {z} of {name}" if self.shape[1] > 1 else name

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (TiffReader, self._source, self._options, self._opening)


def _provenance(
    files: dict[str, ByteFile],
    format_name: str,
    axes: str,
    order: list[int],
    left_out: list[str],
    log: list[str],
) -> dict[str, Any]:
    import imagecodecs
    import tifffile

    facts: dict[str, Any] = {
        "reader": TiffReader.name,
        "format": format_name,
        "files": describe(list(files)),
        "axes": axes,
        "versions": {"tifffile": tifffile.__version__, "imagecodecs": imagecodecs.__version__},
    }
    if order != sorted(order):
        facts["planes_in_file_order"] = order
    if left_out:
        facts["other_pictures"] = left_out
    if log:
        facts["warnings"] = log
    return facts
