"""OME-NGFF 0.5 metadata as plain dictionaries: written here, read for 0.4 and 0.5.

Pure functions; no store is touched. Source: https://ngff.openmicroscopy.org/0.5/ (multiscales,
omero, labels). NGFF orders axes channel then space, so a focus stack is (c, z, y, x) and a slide
(c, y, x); every dataset has exactly one ``scale`` and at most one ``translation`` after it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from slidefusion.errors import StackError
from slidefusion.omezarr.rendering import Look, look_of
from slidefusion.omezarr.version import NGFF_VERSION
from slidefusion.units import micrometres

__all__ = [
    "Multiscale",
    "level_sizes",
    "multiscales",
    "parse_multiscales",
    "plane_positions",
]

_MOST_LEVELS = 64
"""A pyramid that halves cannot have more."""


def level_sizes(height: int, width: int, smallest_px: int = 256) -> list[tuple[int, int]]:
    """Sizes (height, width) of a pyramid that halves, rounding up, until both fit ``smallest_px``.

    >>> level_sizes(1000, 600)
    [(1000, 600), (500, 300), (250, 150)]
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > smallest_px:
        y, x = sizes[-1]
        sizes.append((-(-y // 2), -(-x // 2)))
    return sizes


def multiscales(
    axes: str,
    levels: int,
    *,
    pixel_size_um: tuple[float, float] | None,
    z_step_um: float | None = None,
    z_start_um: float = 0.0,
    origin: tuple[float, float] = (0.0, 0.0),
    name: str = "",
    method: Literal["mean", "nearest"] = "mean",
) -> list[dict[str, Any]]:
    """The ``multiscales`` block of an image whose levels "0", "1", … halve in y and x.

    Parameters
    ----------
    axes
        Letters out of ``"czyx"``, in that order.
    levels
        Number of levels.
    pixel_size_um
        (y, x) µm a level-0 pixel; None writes a scale of 1 without a unit.
    z_step_um, z_start_um
        Distance of the planes (NGFF has no unequal spacing: the mean) and place of the first.
    origin
        (y, x) place of the first pixel in µm, or in pixels where their size is not known.
    method
        How a level is made of the one below: the mean of 2 x 2 pixels, or the first of them.

    >>> multiscales("cyx", 2, pixel_size_um=(0.25, 0.25))[0]["datasets"][1]["path"]
    '1'
    """
    described = []
    for axis in axes:
        entry = {"name": axis, "type": "channel" if axis == "c" else "space"}
        known = z_step_um is not None if axis == "z" else pixel_size_um is not None
        if axis != "c" and known:
            entry["unit"] = "micrometer"
        described.append(entry)
    size_y, size_x = pixel_size_um or (1.0, 1.0)
    scale0 = {"c": 1.0, "z": z_step_um or 1.0, "y": size_y, "x": size_x}
    datasets = []
    for level in range(levels):
        factor = 2.0**level
        scale = [scale0[a] * (factor if a in "yx" else 1.0) for a in axes]
        # The centre of a level's first pixel lies between the pixels that it is the mean of.
        middle = (factor - 1) / 2 if method == "mean" else 0.0
        first_y, first_x = origin
        shift = {
            "c": 0.0,
            "z": z_start_um,
            "y": first_y + size_y * middle,
            "x": first_x + size_x * middle,
        }
        translation = [shift[a] for a in axes]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(translation):
            transforms.append({"type": "translation", "translation": translation})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return [
        {
            "name": name,
            "axes": described,
            "datasets": datasets,
            "type": method,
            "metadata": {
                "method": "2x2 mean" if method == "mean" else "every second pixel",
                "description": "each level halves y and x",
            },
        }
    ]


@dataclass(frozen=True)
class Multiscale:
    """What an image group says of itself, of NGFF 0.4 or 0.5."""

    version: str
    """``"0.4"`` or ``"0.5"``."""
    axes: str
    """Axis letters, for example ``"tczyx"``."""
    paths: tuple[str, ...]
    """Path of each level's array below the group, the finest first."""
    scale: tuple[float, ...]
    """Of the finest level, one number an axis, in µm where the unit is known."""
    translation: tuple[float, ...]
    """Of the finest level, one number an axis, in µm where the unit is known."""
    units_known: tuple[bool, ...]
    """Whether the axis has a physical unit, and a scale that is in it."""
    name: str
    channel_names: tuple[str, ...]
    """Labels of the omero block, or empty."""
    looks: tuple[Look, ...] = ()
    """How the omero block shows each channel."""

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """(y, x) µm a pixel, or None when no unit is given."""
        y, x = self.axes.index("y"), self.axes.index("x")
        known = self.units_known[y] and self.units_known[x]
        return (self.scale[y], self.scale[x]) if known else None

    @property
    def origin(self) -> tuple[float, float]:
        """(y, x) place of the first pixel in µm, or in pixels when no unit is given."""
        y, x = self.axes.index("y"), self.axes.index("x")
        first = self.translation[y], self.translation[x]
        if self.pixel_size_um is None:
            first = first[0] / self.scale[y], first[1] / self.scale[x]
        return first


_COLLECTIONS = {
    "bioformats2raw.layout": "a collection of images, as bioformats2raw writes it",
    "plate": "a plate with wells",
    "well": "a well with several images",
}
"""Groups that hold images and are none, by the attribute that tells."""


def parse_multiscales(attributes: Mapping[str, Any], where: str) -> Multiscale:
    """Read the first multiscale image of a group's attributes, NGFF 0.4 or 0.5.

    Raises
    ------
    StackError
        When the group is no NGFF image, or its metadata contradicts itself.
    """
    ome = attributes.get("ome")
    block = ome if isinstance(ome, Mapping) else attributes
    first = _first_image(block, attributes, where)
    try:
        # Of 0.4 the block is the root, where other people's "version" may lie.
        own = block.get("version") if isinstance(ome, Mapping) else None
        return _parsed(first, block.get("omero"), own)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StackError(
            f"the OME-Zarr metadata of {where} is not valid NGFF 0.4 or 0.5 "
            f"({type(error).__name__}: {error}); write it anew with its producer"
        ) from error


def _first_image(block: Mapping[str, Any], attributes: Mapping[str, Any], where: str) -> Any:
    """The first of a block's multiscale images; refuses a group that is none."""
    scales = block.get("multiscales")
    if isinstance(scales, Sequence) and scales and not isinstance(scales, str):
        return scales[0]
    for key, collection in _COLLECTIONS.items():
        if key in block:
            raise StackError(
                f"{where} is {collection}, and a focus stack is one image: give the path of "
                f"one, such as {where}/{'A/1/0' if key == 'plate' else '0'}"
            )
    raise StackError(
        f"{where} is no OME-Zarr image: its attributes have no 'multiscales' "
        f"(they have: {', '.join(sorted(map(str, attributes))) or 'nothing'})"
    )


def _parsed(first: Any, omero: Any, own: Any) -> Multiscale:
    """What a multiscale image says, with what the omero block and the version beside it say.

    Raises whatever comes of metadata that is not as it should be.
    """
    version = _version(own or first.get("version") or "0.4")
    described = [
        {"name": entry} if isinstance(entry, str) else dict(entry)
        for entry in first.get("axes") or "tczyx"
    ]
    axes = "".join(str(entry["name"]).lower() for entry in described)
    units = [micrometres(str(entry.get("unit", ""))) for entry in described]
    datasets = first["datasets"]
    paths = tuple(str(entry["path"]) for entry in datasets)
    transforms = [
        *datasets[0].get("coordinateTransformations", ()),
        *(first.get("coordinateTransformations") or ()),
    ]
    scale, translation, scaled = _combined(transforms, len(axes))
    labels, looks = _channels(omero)
    if len(described) != len(axes) or not {"y", "x"} <= set(axes) or not paths:
        raise ValueError(f"axes {[entry.get('name') for entry in described]}")
    if len(paths) > _MOST_LEVELS or len(set(paths)) != len(paths):
        raise ValueError(f"{len(paths)} datasets, of which {len(set(paths))} differ")
    _check_places(axes, scale, translation)
    return Multiscale(
        version=version,
        axes=axes,
        paths=paths,
        scale=tuple(s * (u or 1.0) for s, u in zip(scale, units, strict=True)),
        translation=tuple(t * (u or 1.0) for t, u in zip(translation, units, strict=True)),
        units_known=tuple(scaled and u is not None for u in units),
        name=str(first.get("name") or ""),
        channel_names=labels,
        looks=looks,
    )


def _version(said: Any) -> str:
    """The version as a text; raises ``ValueError`` for a later one than is known."""
    version = str(said)
    if _is_to_come(version):
        raise ValueError(f"version {version}, which is not known here")
    return version


def _combined(
    transforms: Iterable[Mapping[str, Any]], count: int
) -> tuple[list[float], list[float], bool]:
    """Scale and translation of ``count`` axes by all transforms in turn; whether any scales."""
    scale, translation, scaled = [1.0] * count, [0.0] * count, False
    for transform in transforms:
        if transform.get("type") == "scale":
            scaled = True
            factors = [float(factor) for factor in transform["scale"]]
            scale = [s * f for s, f in zip(scale, factors, strict=True)]
            translation = [t * f for t, f in zip(translation, factors, strict=True)]
        elif transform.get("type") == "translation":
            translation = [
                t + float(v) for t, v in zip(translation, transform["translation"], strict=True)
            ]
    return scale, translation, scaled


def _channels(omero: Any) -> tuple[tuple[str, ...], tuple[Look, ...]]:
    """Labels of the channels of an omero block, and how each is shown; empty without one."""
    channels = (omero or {}).get("channels") or ()
    labels = [str(channel.get("label") or f"channel {k}") for k, channel in enumerate(channels)]
    return tuple(labels), tuple(map(look_of, channels))


def _check_places(axes: str, scale: Sequence[float], translation: Sequence[float]) -> None:
    """Raise ``ValueError`` where pixels would have no size, or lie nowhere."""
    for axis, step, start in zip(axes, scale, translation, strict=True):
        if axis in "zyx" and not (0 < step < math.inf and math.isfinite(start)):
            raise ValueError(f"scale {step} and translation {start} of axis {axis}")


def _is_to_come(version: str) -> bool:
    """Whether it is later than what is known: 0.6, but not 0.5.1 nor 0.5-dev-spatialdata."""
    found = re.match(r"(\d+)\.(\d+)", version)
    known = tuple(map(int, NGFF_VERSION.split(".")))
    return found is not None and (int(found[1]), int(found[2])) > known


def plane_positions(
    image: Multiscale | None, own: Mapping[str, Any], planes: int, where: str
) -> tuple[tuple[float, ...] | None, int]:
    """Position of every plane in µm, None where it is unknown, and the index of focus offset 0.

    ``own`` is what this package wrote beside the NGFF metadata, which wins: it may state unequal
    distances.

    Raises
    ------
    StackError
        When they are no positions, or not those of ``planes`` planes.
    """
    z_um: Any = own.get("z_um")
    reference: Any = own.get("reference", planes // 2)
    if z_um is None and image is not None and "z" in image.axes:
        at = image.axes.index("z")
        if image.units_known[at]:
            z_um = [image.translation[at] + k * image.scale[at] for k in range(planes)]
    try:
        positions = None if z_um is None else tuple(map(float, z_um))
        number = int(reference)
        if not 0 <= number < planes:
            raise ValueError(f"plane {number} of {planes} as the reference")
        if positions is not None and (
            len(positions) != planes
            or not all(map(math.isfinite, positions))
            or any(a >= b for a, b in pairwise(positions))
        ):
            raise ValueError(f"positions {positions[:8]} of {planes} planes, which must ascend")
    except (TypeError, ValueError, OverflowError) as error:
        raise StackError(
            f"what {where} says of its planes is damaged ({type(error).__name__}: {error}); "
            "convert its source again"
        ) from error
    return positions, number
