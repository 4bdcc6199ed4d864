"""A large stack that is quick to make: a phantom of 2048 x 2048 px, again and again."""

from __future__ import annotations

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
