"""Slide files written for the tests: what scanners write, as far as tifffile can write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from slidefusion.geometry import Window
from slidefusion.readers.base import Reader

APERIO = (
    "Aperio Image Library v12.0\r\n300x200 (64x64) JPEG/RGB Q=70"
    "|AppMag = 40|MPP = 0.2430|Left = 1.0"
)


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> npt.NDArray:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def whole(reader: Reader) -> npt.NDArray:
    """(C, Z, Y, X) of everything."""
    _, planes, height, width = reader.shape
    return np.stack([reader.read(z, Window(0, 0, height, width)) for z in range(planes)], axis=1)


def write_svs(
    path: Path,
    planes: npt.NDArray,
    *,
    low: Sequence[int] | None = None,
    thumbnail_at: int = 1,
    after_label: npt.NDArray | None = None,
    z_um: Sequence[float] = (),
) -> Path:
    """An Aperio file of ``planes`` (Z, Y, X, 3): ``low`` says which planes level 1 has."""
    where = [f"|OffsetZ = {z}" if z else f"|TotalDepth = {len(z_um)}.0" for z in z_um]
    where = where or [""] * len(planes)
    low = range(len(planes)) if low is None else low
    with tifffile.TiffWriter(path) as tif:

        def page(image: npt.NDArray, description: str = APERIO, **options: object) -> None:
            tif.write(
                np.ascontiguousarray(image),
                photometric="rgb",
                description=description,
                metadata=None,
                software=None,
                contiguous=False,
                **options,
            )

        for z, plane in enumerate(planes):
            if z == thumbnail_at:
                page(planes[0, ::8, ::8])
            page(plane, APERIO + where[z], tile=(64, 64), compression="zlib")
        if thumbnail_at >= len(planes):
            page(planes[0, ::8, ::8])
        for z in low:
            page(planes[z, ::2, ::2], APERIO + where[z], tile=(64, 64), compression="zlib")
        page(planes[0, :20, :30], "Aperio label", subfiletype=1)
        page(planes[0, :25, :35], "Aperio macro", subfiletype=9)
        if after_label is not None:
            page(after_label, tile=(64, 64))
    return path


def write_ndpi(path: Path, planes: npt.NDArray, z_nm: Sequence[int]) -> Path:
    """A Hamamatsu file of ``planes`` (Z, Y, X, 3) with two levels; tags as NDPI has them.

    Big-endian, because tifffile writes classic offsets and takes little-endian .ndpi for 64-bit.
    """
    with tifffile.TiffWriter(path, byteorder=">") as tif:
        for step in (1, 2):
            for plane, z in zip(planes, z_nm, strict=True):
                tif.write(
                    np.ascontiguousarray(plane[::step, ::step]),
                    photometric="rgb",
                    tile=(64, 64),
                    metadata=None,
                    contiguous=False,
                    resolution=(40000 / step, 50000 / step),
                    resolutionunit="CENTIMETER",
                    extratags=[
                        (271, 2, 0, "Hamamatsu", True),
                        (65420, 4, 1, 1, True),
                        (65421, 11, 1, 20.0 / step, True),
                        (65424, 9, 1, z, True),
                    ],
                )
    return path
