"""What a TIFF file says of its pixel size, plane positions and channels.

Each kind of file has its own place for it. A number counts only with a unit that is a length, and
a resolution tag only when it can be a microscope's: 72 dots an inch are a printer's default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

from slidefusion.units import micrometres

__all__ = ["Physical", "physical", "resolution_tags"]

_PLAUSIBLE_UM = (0.01, 30.0)
_NDPI_Z_NM = 65424


@dataclass(frozen=True)
class Physical:
    """Sizes in µm, None where the file does not say."""

    pixel_size_um: tuple[float, float] | None = None
    """(y, x)."""
    z_um: tuple[float, ...] | None = None
    """Position of every plane, in the order of the file."""
    channel_names: tuple[str, ...] = ()
    colours: tuple[str | None, ...] = ()
    """Of each channel, RRGGBB."""


def physical(tif: Any, series: Any, planes: int, pages: Sequence[Any]) -> Physical:
    """What ``tif`` says of ``series``; ``pages`` has the first page of each of ``planes``."""
    found = _physical(tif, series, planes, pages)
    size, z_um = found.pixel_size_um, found.z_um
    if size is not None and not all(0 < value < math.inf for value in size):
        size = None
    if z_um is not None and not all(map(math.isfinite, z_um)):
        z_um = None
    return replace(found, pixel_size_um=size, z_um=z_um)


def _physical(tif: Any, series: Any, planes: int, pages: Sequence[Any]) -> Physical:
    try:
        if series.kind == "ome":
            return _ome(tif, series, planes)
        if series.kind == "imagej":
            return _imagej(tif, planes)
        pixel_size = _aperio(tif) if series.kind == "svs" else None
        pixel_size = pixel_size or resolution_tags(series.keyframe)
        positions = {"ndpi": _ndpi_z, "svs": _aperio_z}.get(series.kind)
        return Physical(pixel_size, positions(pages) if positions else None)
    except (ValueError, KeyError, IndexError, TypeError, ElementTree.ParseError):
        return Physical()  # a number that cannot be read is a number that is not stated


def _ome(tif: Any, series: Any, planes: int) -> Physical:
    root = ElementTree.fromstring(tif.ome_metadata)
    images = [element for element in root if element.tag.endswith("Image")]
    if len(images) != len(tif.series):
        # tifffile leaves out images without data; without them the numbers would be another's.
        images = [image for image in images if _find(_pixels(image), "TiffData")]
    if len(images) != len(tif.series):
        return Physical()
    number = next(k for k, other in enumerate(tif.series) if other is series)
    pixels = _pixels(images[number])
    attributes = pixels.attrib
    y, x = (_length(attributes, f"PhysicalSize{axis}") for axis in "YX")
    channels = [channel.attrib for channel in _find(pixels, "Channel")]
    names = tuple(channel.get("Name", "") for channel in channels)
    colours = tuple(_colour(channel.get("Color")) for channel in channels)
    if len(colours) > 1 and set(colours) == {"FFFFFF"}:  # the default, which says nothing
        colours = ()
    z_um = _ome_positions(pixels, planes)
    step = _length(attributes, "PhysicalSizeZ")
    if z_um is None and step:
        z_um = tuple(step * k for k in range(planes))
    size = (y, x) if y and x else None
    return Physical(size, z_um, names if all(names) else (), colours)


def _colour(text: str | None) -> str | None:
    """RRGGBB of what OME-XML has: red, green, blue and alpha as one signed number of 32 bits."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return f"{(number & 0xFFFFFFFF) >> 8:06X}"


def _ome_positions(pixels: Any, planes: int) -> tuple[float, ...] | None:
    found: dict[int, float] = {}
    for plane in _find(pixels, "Plane"):
        place = plane.attrib
        # Without a unit OME means "reference frame", which is no length.
        unit = micrometres(place.get("PositionZUnit"))
        if unit is None or "PositionZ" not in place:
            continue
        if int(place.get("TheC", 0)) == 0 and int(place.get("TheT", 0)) == 0:
            found[int(place.get("TheZ", 0))] = float(place["PositionZ"]) * unit
    positions = tuple(found[z] for z in sorted(found))
    complete = sorted(found) == list(range(planes)) and len(set(positions)) == planes
    return positions if complete else None


def _pixels(image: Any) -> Any:
    return _find(image, "Pixels")[0]


def _find(element: Any, tag: str) -> list[Any]:
    return [child for child in element if child.tag.rpartition("}")[2] == tag]


def _length(attributes: dict[str, str], name: str) -> float | None:
    unit = micrometres(attributes.get(f"{name}Unit", "µm"))
    value = float(attributes.get(name, "nan"))
    return value * unit if unit and math.isfinite(value) and value > 0 else None


def _imagej(tif: Any, planes: int) -> Physical:
    meta = tif.imagej_metadata or {}
    unit = micrometres(str(meta.get("unit", "")))
    if unit is None:
        return Physical()
    # ImageJ writes pixels a unit into the resolution tags, whatever their own unit says.
    x, y = (_rational(tif.pages.first, tag) for tag in ("XResolution", "YResolution"))
    step = abs(float(meta.get("spacing", 0.0))) * unit
    return Physical(
        (unit / y, unit / x) if x and y else None,
        tuple(step * k for k in range(planes)) if step else None,
    )


def _aperio(tif: Any) -> tuple[float, float] | None:
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)", tif.pages.first.description)
    value = float(found.group(1)) if found else 0.0
    return (value, value) if value > 0 else None


def _aperio_z(pages: Sequence[Any]) -> tuple[float, ...] | None:
    """µm of each plane, in whatever order the file has them: the one at 0 states the stack's whole
    depth, each of the others its offset."""
    found = [
        re.search(r"\|\s*(OffsetZ|TotalDepth)\s*=\s*([0-9.eE+-]+)", page.description)
        for page in pages
    ]
    z_um = tuple(float(m[2]) if m[1] == "OffsetZ" else 0.0 for m in found if m is not None)
    return z_um if len(set(z_um)) == len(pages) else None


def resolution_tags(page: Any) -> tuple[float, float] | None:
    """(y, x) µm a pixel from the resolution tags, if they have a unit and can be a microscope's."""
    unit = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}.get(int(page.tags.valueof("ResolutionUnit", 0)))
    x, y = (_rational(page, tag) for tag in ("XResolution", "YResolution"))
    if unit is None or not x or not y:
        return None
    low, high = _PLAUSIBLE_UM
    size = unit / y, unit / x
    return size if all(low <= value <= high for value in size) else None


def _rational(page: Any, tag: str) -> float:
    numerator, denominator = page.tags.valueof(tag, (0, 1))
    return float(numerator) / denominator if denominator else 0.0


def _ndpi_z(pages: Sequence[Any]) -> tuple[float, ...] | None:
    offsets = [page.tags.valueof(_NDPI_Z_NM) for page in pages]
    if any(offset is None for offset in offsets) or len(set(offsets)) != len(offsets):
        return None
    return tuple(float(offset) / 1000.0 for offset in offsets)
