"""The fused slide, every single plane and the planes' mean, measured against the truth."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.geometry import Size, Window

__all__ = ["Measured", "Opened", "measure"]

_AREA_PX = 4096

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Opened:
    """The demo's results in memory, at most 4096 px a side from the middle of the slide."""

    slide: Size
    """The whole slide."""
    area: Window
    """What of it this is."""
    planes: Any
    """(Z, C, Y, X), lazy: ``planes[k]`` reads one, ``planes.read(k, window)`` a part of it."""
    fused: Pixels
    """(C, Y, X)."""
    truth: Pixels
    """(C, Y, X)."""
    depth_um: Floats
    """(Y, X) true depth, NaN on clear glass."""
    fused_depth_um: Floats | None
    """(Y, X) position of the plane that the fuser took each pixel from, if it says so."""
    z_um: tuple[float, ...]
    offsets: tuple[int, ...]
    """Focus offset of each plane."""
    pixel_size_um: float

    @property
    def reference(self) -> int:
        """Index of the plane with offset 0."""
        return self.offsets.index(0)


def middle(height: int, width: int) -> Window:
    """The window of at most 4096 px a side in the middle of a slide."""
    h, w = min(height, _AREA_PX), min(width, _AREA_PX)
    return Window((height - h) // 2, (width - w) // 2, h, w)


@dataclass(frozen=True)
class Measured:
    """Scores against the truth, each ``{"ssim", "cc", "qmi"}``, and where the errors are."""

    planes: tuple[dict[str, float], ...]
    mean: dict[str, float]
    fused: dict[str, float]
    best: int
    """Index of the single plane with the highest SSIM."""
    plane_error: Floats
    """(h, w) mean absolute error of the reference plane, one value a block, in gray values."""
    fused_error: Floats
    """(h, w) the same for the fused slide."""
    depth_error_um: float | None
    """Median distance of the fuser's depth from the true one where there is material."""


def measure(opened: Opened) -> Measured:
    """Score everything; two planes at a time."""
    from slidefusion import metrics

    truth = opened.truth
    total = np.zeros(truth.shape, np.uint16)
    lock = threading.Lock()

    def plane(k: int) -> tuple[dict[str, float], Floats | None]:
        pixels = opened.planes[k]
        with lock:
            np.add(total, pixels, out=total)
        error = block_error(pixels, truth) if k == opened.reference else None
        return metrics.compare(pixels, truth), error

    count = len(opened.z_um)
    with ThreadPoolExecutor(2) as threads:
        fused = threads.submit(metrics.compare, opened.fused, truth)
        scored = list(threads.map(plane, range(count)))
        mean = ((total + count // 2) // count).astype(np.uint8)
        mean_score = threads.submit(metrics.compare, mean, truth).result()
        fused_score = fused.result()
    plane_error = next(error for _, error in scored if error is not None)
    scores = tuple(score for score, _ in scored)
    return Measured(
        scores,
        mean_score,
        fused_score,
        best=int(np.argmax([score["ssim"] for score in scores])),
        plane_error=plane_error,
        fused_error=block_error(opened.fused, truth),
        depth_error_um=_depth_error(opened),
    )


def _depth_error(opened: Opened) -> float | None:
    known = np.isfinite(opened.depth_um)
    if opened.fused_depth_um is None or not known.any():
        return None
    return float(np.median(np.abs(opened.fused_depth_um - opened.depth_um)[known]))


def block_error(image: Pixels, truth: Pixels, block: int = 4) -> Floats:
    """Mean absolute error over channels and blocks of ``block`` x ``block`` px: (h, w)."""
    _, height, width = truth.shape
    h, w = max(1, height // block), max(1, width // block)
    found = np.zeros((h, w), np.float32)
    step = 64
    for top in range(0, h, step):
        rows = slice(top * block, min(top + step, h) * block)
        a, b = image[:, rows, : w * block], truth[:, rows, : w * block]
        error = np.abs(a.astype(np.int16) - b).mean(axis=0, dtype=np.float32)
        found[top : top + step] = error.reshape(-1, block, w, block).mean(axis=(1, 3))
    return found
