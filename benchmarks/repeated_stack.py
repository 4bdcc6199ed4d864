"""Large stacks that are quick to make: a phantom of 2048 x 2048 px, again and again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np


def make_stack(path: Path, size: int, planes: int) -> None:
    """Write the stack to fuse with slidefusion's own layout."""
    import slidefusion as sf
    from slidefusion.geometry import Size, Window
    from slidefusion.phantom import Phantom

    side = min(size, 2048)
    block = Phantom(side, side, planes=planes, seed=1).stack(Window(0, 0, side, side))

    class Repeated:
        """The block again and again: (C, Z, Y, X)."""

        shape = (block.shape[1], planes, size, size)
        dtype = block.dtype
        name = "repeated"
        tile = Size(side, side)
        is_rgb = True
        pixel_size_um = (0.243, 0.243)
        z_um = tuple(2.7 * (z - planes // 2) for z in range(planes))
        channel_names = ("red", "green", "blue")
        provenance: dict[str, Any] = {"source": "a phantom, repeated"}  # noqa: RUF012

        def read(self, z: int, window: Window) -> np.ndarray:
            rows = np.arange(window.y, window.bottom) % side
            columns = np.arange(window.x, window.right) % side
            return block[z][:, rows][:, :, columns]

        def close(self) -> None:
            pass

    sf.convert(Repeated(), path, progress=False)


def make_linked_stack(path: Path, size: int, planes: int) -> None:
    """The same stack without its pyramid, in which every block is the same file on the disk.

    A block is one shard, so that all of it can be linked. However large, the stack takes the space
    of one block and stays in the page cache: what is measured is the work, and not the disk.
    """
    side = 2048
    if size % side:
        raise SystemExit(f"size {size}: give a multiple of {side}")
    make_stack(path, side, planes)
    group = json.loads((path / "zarr.json").read_text())
    (image,) = group["attributes"]["ome"]["multiscales"]
    for dataset in image["datasets"][1:]:
        shutil.rmtree(path / dataset["path"])
    image["datasets"] = image["datasets"][:1]
    group.pop("consolidated_metadata", None)
    (path / "zarr.json").write_text(json.dumps(group))
    array = path / image["datasets"][0]["path"]
    metadata = json.loads((array / "zarr.json").read_text())
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"][-2:] == [side, side]
    metadata["shape"][-2:] = size, size
    (array / "zarr.json").write_text(json.dumps(metadata))
    for first in array.glob("c/*/*/0/0"):
        for y in range(size // side):
            row = first.parents[1] / str(y)
            row.mkdir(exist_ok=True)
            for x in range(size // side):
                if (y, x) != (0, 0):
                    os.link(first, row / str(x))
