"""Sources and fusers for these tests: exact, slow enough to be killed, and failing on demand.

Everything here is importable by worker processes, and counts on disk, where all processes see it.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from slidefusion.fuser import Footprint, Fused, PlaneRange
from slidefusion.geometry import Size, Window


def note(folder: str, what: str) -> int:
    """Note that something happened, in whichever process; how often it has now."""
    path = Path(folder) / what
    path.mkdir(parents=True, exist_ok=True)
    (path / uuid.uuid4().hex).write_text(str(os.getpid()))
    return len(list(path.iterdir()))


def noted(folder: Path, what: str) -> list[int]:
    """The processes in which it happened, once for each time."""
    path = folder / what
    texts = [p.read_text() for p in path.iterdir()] if path.is_dir() else []
    return [int(text) for text in texts if text]  # one is empty while it is being written


@dataclass(frozen=True)
class Pattern:
    """A reader of pixels that depend on their position alone; ``failing`` regions raise.

    ``times`` says how often each of those fails before it succeeds.
    """

    height: int = 1024
    width: int = 1024
    planes: int = 2
    seconds: float = 0.0
    failing: tuple[tuple[int, int], ...] = ()
    times: int = 0
    kind: str = "io"
    notes: str = ""

    name: ClassVar[str] = "pattern"
    dtype: ClassVar[Any] = np.dtype(np.uint8)
    tile: ClassVar[Size] = Size(64, 64)
    pixel_size_um: ClassVar[tuple[float, float]] = (0.25, 0.25)
    channel_names: ClassVar[tuple[str, ...]] = ("gray",)
    is_rgb: ClassVar[bool] = False
    provenance: ClassVar[dict[str, Any]] = {"reader": "pattern"}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (1, self.planes, self.height, self.width)

    @property
    def z_um(self) -> tuple[float, ...]:
        return tuple(map(float, range(self.planes)))

    def read(self, z: int, window: Window) -> np.ndarray:
        if z == 0 and self.notes:
            note(self.notes, f"read-{window.y}-{window.x}")
        time.sleep(self.seconds)
        if z == 0 and (window.y, window.x) in self.failing:
            count = note(self.notes, f"fail-{window.y}-{window.x}")
            if count <= self.times:
                self._fail()
        return plane(z, window)

    def _fail(self) -> None:
        if self.kind == "io":
            raise OSError(5, "Input/output error", "slide.file")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("a bug")

    def close(self) -> None:
        pass


def plane(z: int, window: Window) -> np.ndarray:
    """(1, h, w) uint8: a hash of the position, smooth enough to compress."""
    y = np.arange(window.y, window.bottom, dtype=np.uint32)[:, None]
    x = np.arange(window.x, window.right, dtype=np.uint32)[None]
    mixed = (y // 3) * 2654435761 + (x // 2) * 40503 + np.uint32(z) * 97
    return ((mixed >> 9) & 0xFF).astype(np.uint8)[None]


@dataclass(frozen=True)
class Brightest:
    """The brightest of the planes, slowly; says where it ran, and may claim to need a GPU."""

    seconds: float = 0.0
    device: str = "cpu"
    notes: str = ""
    greedy: int = 0

    name: ClassVar[str] = "brightest"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    footprint: ClassVar[Footprint] = Footprint(halo=8, period=4)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return 8 * channels * height * width

    def __call__(self, stack: Any) -> Fused:
        if self.notes and stack.shape[-1] > 64:
            note(self.notes, "fused")
        hog = np.ones(self.greedy, np.uint8)
        time.sleep(self.seconds)
        whole = np.asarray(stack)
        del hog
        return Fused(whole.max(axis=0), whole[:, 0].argmax(axis=0).astype(np.uint8))
