"""A tiled OME-TIFF with focal planes, written tile by tile in any order.

A slide scanner writes one plane after the other; a phantom gives all planes of a region at once. So
the file is laid out first, with empty uncompressed tiles, and each region then goes to its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slidefusion.errors import ProcessingError
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomRegion

__all__ = ["TILE_PX", "SlideFile"]

TILE_PX = 512
"""Side of a tile; regions must be tiles."""


@dataclass(frozen=True)
class SlideFile:
    """An OME-TIFF (z, y, x, samples) being filled; a sink of ``render_into``."""

    path: str
    columns: int
    """Tiles across."""
    offsets: tuple[tuple[int, ...], ...]
    """Bytes from the start of the file to each tile, one row a plane."""

    @classmethod
    def create(cls, path: Path, phantom: Phantom) -> SlideFile:
        """Lay out the file at ``path``; its tiles are zero until they are written.

        Raises :class:`ProcessingError` when it cannot be written there.
        """
        import tifffile

        channels, planes, height, width = phantom.shape
        y_um, x_um = phantom.pixel_size_um
        sizes = {
            "PhysicalSizeX": x_um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": y_um,
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZ": phantom.settings.z_step_um,
            "PhysicalSizeZUnit": "µm",
            "Plane": {"PositionZ": list(phantom.z_um), "PositionZUnit": ["µm"] * planes},
        }
        shape = (planes, height, width) + ((channels,) if channels > 1 else ())
        try:
            with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
                writer.write(
                    None,
                    shape=shape,
                    dtype="uint8",
                    tile=(TILE_PX, TILE_PX),
                    photometric="rgb" if channels > 1 else "minisblack",
                    resolution=(1e4 / x_um, 1e4 / y_um),
                    resolutionunit="CENTIMETER",
                    software="slidefusion phantom",
                    metadata={"axes": "ZYXS"[: len(shape)], **sizes},
                )
            with tifffile.TiffFile(path) as file:
                offsets = tuple(tuple(page.dataoffsets) for page in file.pages)
        except OSError as error:
            raise ProcessingError(f"cannot write {path}: {error}; choose another folder") from error
        return cls(str(path), -(-width // TILE_PX), offsets)

    def write(self, window: Window, region: PhantomRegion) -> int:
        """Write the tile ``window`` of every plane; returns its bytes.

        Raises :class:`ProcessingError` when the file refuses.
        """
        row, column = window.y // TILE_PX, window.x // TILE_PX
        tile = np.zeros((TILE_PX, TILE_PX, region.stack.shape[1]), np.uint8)
        try:
            with Path(self.path).open("r+b") as file:
                for plane, offsets in zip(region.stack, self.offsets, strict=True):
                    tile[: window.height, : window.width] = plane.transpose(1, 2, 0)
                    file.seek(offsets[row * self.columns + column])
                    file.write(tile.tobytes())
        except OSError as error:
            raise ProcessingError(f"cannot write {self.path}: {error}; make room there") from error
        return tile.nbytes * len(self.offsets)
