"""Small sound stores and TIFF files, before anything is done to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
import zarr

import slidefusion as sf

from ..readers.synthetic import write_ndpi, write_svs

STORES = ("stack", "slide", "ngff04")
TIFFS = ("ome.tif", "imagej.tif", "plain.tif", "big.tif", "svs", "ndpi")


def planes(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, shape, dtype=np.uint8)


def make_stores(folder: Path) -> None:
    """A stack and a slide as this package writes them, and an image of NGFF 0.4."""
    source = folder / "source.ome.tif"
    tifffile.imwrite(
        source, planes(3, 80, 100), ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    stack = folder / "stack"
    small = {"shard_px": 64, "chunk_px": 32, "progress": False}
    sf.convert(source, stack, pixel_size_um=0.25, z_step_um=1.0, **small)
    sf.fuse(stack, out=folder / "slide", chunks=64, progress=False)
    group = zarr.create_group(folder / "ngff04", zarr_format=2)
    array = group.create_array("0", shape=(1, 1, 3, 40, 50), chunks=(1, 1, 1, 20, 50), dtype="u2")
    array[...] = planes(1, 1, 3, 40, 50)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 2.0, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    image = {"version": "0.4", "axes": axes, "datasets": datasets, "name": "a"}
    group.attrs["multiscales"] = [image]
    source.unlink()


def make_tiffs(folder: Path) -> None:
    """One file of each kind that the reader knows."""
    gray, separate = planes(3, 80, 100), {"photometric": "minisblack"}
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 1.0}
    tiled = {"tile": (32, 32), "compression": "zlib"}
    tifffile.imwrite(
        folder / "ome.tif", gray, ome=True, metadata={"axes": "ZYX", **sizes}, **separate, **tiled
    )
    tifffile.imwrite(folder / "imagej.tif", gray, imagej=True, metadata={"axes": "ZYX"}, **separate)
    tifffile.imwrite(
        folder / "plain.tif", gray, metadata={"axes": "ZYX"}, rowsperstrip=16, **separate
    )
    tifffile.imwrite(
        folder / "big.tif", gray, bigtiff=True, metadata=None, compression="lzw", **separate
    )
    write_svs(folder / "svs", planes(3, 80, 100, 3))
    write_ndpi(folder / "ndpi", planes(3, 80, 100, 3), (0, -1000, 1000))


def make_secret(folder: Path) -> None:
    """What lies outside of the input and must stay as it is: a sound stack, and a file."""
    array = zarr.create_array(
        folder / "secret.zarr" / "0", shape=(1, 3, 80, 100), chunks=(1, 1, 40, 50), dtype="u1"
    )
    array[...] = 7
    tifffile.imwrite(folder / "secret.tif", planes(3, 80, 100), photometric="minisblack")
    (folder / "secret.json").write_text(json.dumps({"secret": True}))
