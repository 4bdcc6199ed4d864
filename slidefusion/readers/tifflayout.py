"""Which pages of a TIFF file are which plane and channel; refused wherever that is not certain.

No plane may get lost. tifffile sorts a file's pages into series and drops, with a warning at most,
those that do not fit; what it left out is found here and refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

from slidefusion.errors import OptionError, ReaderError, StackError

__all__ = ["Layout", "check_nothing_left", "choose_series", "layout_of"]

_SLIDES = frozenset({"svs", "ndpi", "bif", "philips", "qpi", "avs"})
_ASSOCIATED = re.compile(r"label|macro|thumb|overview|map\b|barcode|preview", re.IGNORECASE)
_BY_CODING = frozenset({"generic", "uniform"})
"""Kinds of series that tifffile makes of pages that are coded alike."""
_LOSS = re.compile(
    r"missing|zeroed|out of range|do not match|truncated|corrupt|invalid page|invalid offset"
    r"|discontiguous|expected \d+ frames|failed to read|raised|circular"
)


@dataclass(frozen=True)
class Layout:
    """How the pages of a series map to planes and channels."""

    planes: int
    page_channels: int
    """Pages a plane, one channel each or one colour picture each."""
    frames: tuple[tuple[str, int], ...]
    """Letter and length of the axes that pages follow each other along, the fastest last."""
    axes: str
    """The axes as they were understood."""
    split: int = 1
    """Pages that one page of the file counts as: its separate samples are planes."""

    def order(self) -> list[list[int]]:
        """``order()[z][c]`` is the number of the page.

        Ask once it is known that there are as many pages: a damaged file may declare any number.
        """
        order = [[0] * self.page_channels for _ in range(self.planes)]
        for number in range(self.planes * self.page_channels):
            rest, z, c = number, 0, 0
            z_unit = c_unit = 1
            for letter, length in reversed(self.frames):
                rest, k = divmod(rest, length)
                if letter == "Z":
                    z, z_unit = z + k * z_unit, z_unit * length
                elif letter in "CS":
                    c, c_unit = c + k * c_unit, c_unit * length
            order[z][c] = number
        return order


def choose_series(tif: Any, number: int | None) -> Any:
    """The series that is the stack: the one asked for, or the largest if the rest are extras.

    Extras are label, macro and thumbnail pictures, and smaller versions of the same picture.

    Raises:
        OptionError: there is no series of that number, or it is a part of a stack.
        StackError: there are several that may be meant.
    """
    every = list(tif.series)
    if number is not None and not 0 <= number < len(every):
        raise OptionError(
            f"series={number}: {_name(tif)} has series 0 to {len(every) - 1}: {_list(every)}"
        )
    if number is not None:
        alike = [s for s in every if _size(s) == _size(every[number])]
        if len(alike) > 1 and all(s.kind in _BY_CODING for s in alike) and _joined(alike):
            raise OptionError(
                f"series={number}: pages of {_name(tif)} are alike, and in several series only "
                f"because they are not compressed alike; all {sum(map(len, alike))} are one stack: "
                "leave series= away, or save the pages alone"
            )
        return every[number]
    chosen = max(every, key=lambda s: s.keyframe.imagelength * s.keyframe.imagewidth)
    others = [s for s in every if s is not chosen and not _is_extra(s, chosen)]
    together = _joined([chosen, *others]) if others else chosen
    if together is None:
        raise StackError(
            f"{_name(tif)} holds several pictures that may be meant: {_list(every)}. The planes of "
            "a stack have one size and lie in one series; say which one with series=N"
        )
    return together


def _joined(every: list[Any]) -> Any | None:
    """All pages of these series as one, in the order of the file; None if they are no planes.

    They are if nothing but their coding or the writer's calls has put them apart, and they have
    one shape, dtype and meaning of values.
    """
    import tifffile

    apart = all(
        s.kind in _BY_CODING or (s.kind == "shaped" and s.size == s.keyframe.size) for s in every
    )
    if not apart:  # else some may be missing
        return None
    pages = sorted((page for s in every for page in s.pages), key=lambda page: page.index)
    frames = [page.keyframe for page in pages]
    forms = {(f.shape, f.axes, str(f.dtype), f.photometric, f.extrasamples) for f in frames}
    if len(forms) > 1:
        return None
    shape, axes = frames[0].shape, frames[0].axes
    return tifffile.TiffPageSeries(
        pages, (len(pages), *shape), frames[0].dtype, f"I{axes}", kind="generic"
    )


def _is_extra(series: Any, chosen: Any) -> bool:
    height, width = _size(series)
    full_height, full_width = _size(chosen)
    if (height, width) == (full_height, full_width):
        return False
    if series.kind in _SLIDES or _ASSOCIATED.search(series.name or ""):
        return True
    ratio = (height / full_height) / (width / full_width)
    return bool(series.keyframe.is_reduced) or (height < full_height and abs(ratio - 1) < 0.02)


def layout_of(tif: Any, series: Any, axes: str | None) -> Layout:
    """Map the pages of ``series`` to planes and channels.

    ``axes`` names the axes of ``series.shape`` where the file does not, such as ``"ZCYX"``.

    Raises:
        OptionError: ``axes`` does not fit.
        StackError: an axis is not one that a focus stack has, or a picture has no height and width.
    """
    shape, found = tuple(series.shape), series.axes
    if axes is not None:
        found = axes.upper()
        if len(found) != len(shape) or not set("YX") <= set(found) or set(found) - set("TCZYXS"):
            raise OptionError(
                f"axes={axes!r} does not fit {_name(tif)} of shape {shape} (axes "
                f"{series.axes}): give {len(shape)} letters of T, C, Z, Y, X, S with Y and X"
            )
        if [found.index(a) for a in "YX"] != [series.axes.find(a) for a in "YX"]:
            raise OptionError(
                f"axes={axes!r}: the height (Y) and the width (X) of the pictures in {_name(tif)} "
                f"are where {series.axes} has them; name the other axes"
            )
    if not set("YX") <= set(found) or prod(shape) < series.keyframe.size:
        raise StackError(
            f"{_name(tif)} says that its axes are {found} of lengths {shape}, in which its "
            "pictures with their height (Y) and width (X) have no place: it is damaged; write it "
            "anew with its producer"
        )
    head = len(shape)
    while prod(shape[head:]) < series.keyframe.size or not set("YX") <= set(found[head:]):
        head -= 1
    frames = list(zip(found[:head], shape[:head], strict=True))
    unknown = [letter for letter, length in frames if letter not in "TCZS" and length > 1]
    hint = f"name the {len(shape)} axes {shape} with axes=, such as axes={_example(found)!r}"
    if len(unknown) > 1 or (unknown and dict(frames).get("Z", 1) > 1):
        raise StackError(
            f"{_name(tif)} has axes {found} of lengths {shape}, and it does not say which of "
            f"{', '.join(unknown)} are the focal planes: {hint}"
        )
    frames = [("Z" if letter in unknown else letter, length) for letter, length in frames]
    lengths: dict[str, int] = {}
    for letter, length in frames:  # two axes may have one letter, and are gone through in turn
        if length > 1:
            lengths[letter] = lengths.get(letter, 1) * length
    if "T" in lengths:
        raise StackError(
            f"{_name(tif)} holds {lengths['T']} time points (axes {found}, shape {shape}); a focus "
            f"stack has one. Extract one; or, if these are focal planes, {hint}"
        )
    # Writers that take any 3 or 4 gray pictures for RGB store planes as samples of one page.
    inside = dict(zip(found[head:], shape[head:], strict=True))
    split = inside.get("Z", 1)
    if split > 1:
        if split != series.keyframe.shaped[0] or "Z" in lengths:
            raise StackError(
                f"{_name(tif)} stores its planes as samples of a pixel (axes {found}, shape "
                f"{shape}); write one page a plane"
            )
        frames.append(("Z", split))
    planes = lengths.get("Z", 1) * split
    channels = lengths.get("C", 1) * lengths.get("S", 1)
    return Layout(planes, channels, tuple(frames), found, split)


def _example(axes: str) -> str:
    """``axes`` with names for those that have none: planes, unless there are, or channels.

    >>> _example("QQYX"), _example("TZYX"), _example("QZYX")
    ('CZYX', 'ZZYX', 'CZYX')
    """
    names = [a if a in "CZYXS" else "Z" for a in axes]
    nameless = [k for k, a in enumerate(axes) if a not in "TCZYXS"]
    if len(nameless) > ("Z" not in axes) and not {"C", "S"} & set(axes):
        names[nameless[0]] = "C"
    return "".join(names)


def check_nothing_left(tif: Any, series: Any, layout: Layout, log: list[str]) -> None:
    """Refuse a file that has planes which ``layout`` does not give.

    Raises:
        ReaderError: naming how many pages there are and how many the series has.
    """
    given = layout.planes * layout.page_channels // layout.split
    way_out = (
        "; no plane may be lost, so the file is refused. Re-export it as OME-TIFF, or pass one "
        "file a plane"
    )
    if tif.is_ome and series.kind not in ("ome", "imagej"):
        raise ReaderError(
            f"{_name(tif)} has OME-XML that does not describe its own planes (it is one of a set "
            "of files, or damaged): pass the file of the set that holds the whole OME-XML, or "
            "re-export the planes into one OME-TIFF"
        )
    lossy = [message for message in log if _LOSS.search(message)]
    if series.dataoffset is None:
        for level, pages in enumerate(series.levels):
            if len(pages.pages) != given:
                raise ReaderError(
                    f"{_name(tif)} has {len(pages.pages)} pages at level {level}, which do not fit "
                    f"a series of {layout.planes} planes{way_out}"
                )
        used = {
            (page.parent.filehandle.path, page.offset)
            for other in tif.series
            for level in other.levels
            for page in level.pages
            if page is not None
        }
        full = _size(series)
        here = tif.filehandle.path
        left = []
        for number in range(len(tif.pages)):
            page = tif.pages.get(number, aspage=True, cache=False)
            if (here, page.offset) not in used and (page.imagelength, page.imagewidth) == full:
                left.append(number)
        if left:
            raise ReaderError(
                f"{_name(tif)} has {len(left)} more pages of {full[0]} x {full[1]} px, the full "
                f"size, than the {given} of its series (pages {left[:8]}){way_out}"
            )
    if lossy:
        raise ReaderError(
            f"{_name(tif)} is not complete: {_clean(lossy[0])}; restore what is missing, or "
            "copy the file again"
        )


def _clean(message: str) -> str:
    return re.sub(r"^<[^>]*>\s*", "", message)


def _size(series: Any) -> tuple[int, int]:
    return int(series.keyframe.imagelength), int(series.keyframe.imagewidth)


def _name(tif: Any) -> str:
    return str(tif.filename)


def _list(every: list[Any]) -> str:
    return "; ".join(
        f"{k}: {s.name or s.kind} {'x'.join(map(str, s.shape))} ({s.axes})"
        for k, s in enumerate(every)
    )
