"""Small synthetic stacks for the laws: cheap, in focus here and there, and nasty."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import PlaneByPlane
from slidefusion.overview import MemoryOverview
from slidefusion.value_range import value_range

__all__ = [
    "LazyPlanes",
    "blur",
    "focus_stack",
    "overview",
    "pad_to_period",
    "texture",
    "to_dtype",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def blur(image: Floats, passes: int) -> Floats:
    """[1 2 1]/4 along Y and X, ``passes`` times: a Gaussian of sigma sqrt(passes / 2) px."""
    for _ in range(passes):
        for axis in (-2, -1):
            pad = [(0, 0)] * image.ndim
            pad[axis] = (1, 1)
            padded = np.moveaxis(np.pad(image, pad, mode="edge"), axis, 0)
            image = np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
    return image


def texture(rng: np.random.Generator, channels: int, height: int, width: int) -> Floats:
    """A sharp random texture (C, Y, X) within [0, 1], with detail at several scales."""
    image = np.zeros((channels, height, width))
    for passes, gain in ((0, 0.25), (1, 0.5), (6, 1.0)):
        image += gain * blur(rng.standard_normal((channels, height, width)), passes)
    image -= image.min()
    image /= max(float(image.max()), 1e-9)
    return image


def to_dtype(image: Floats, dtype: npt.DTypeLike) -> Array:
    """Values in [0, 1] as the full range of ``dtype``."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return image.astype(dtype)
    return np.rint(image * value_range(dtype)).astype(dtype)


def focus_stack(
    seed: int, planes: int, channels: int, height: int, width: int, dtype: npt.DTypeLike
) -> Array:
    """A stack (Z, C, Y, X) whose planes are each sharp somewhere, read-only.

    It also holds what breaks fusers: flat areas where all planes tie, saturated black and white,
    planes of different brightness, and noise.
    """
    rng = np.random.default_rng(seed)
    sharp = texture(rng, channels, height, width)
    soft = blur(sharp, 6)
    stack = np.empty((planes, channels, height, width))
    for z in range(planes):
        focus = blur(rng.random((1, height, width)), 8)
        stack[z] = np.where(focus > np.median(focus), sharp, soft)
        stack[z] *= 0.9 + 0.1 * rng.random()
        stack[z] += 0.01 * rng.standard_normal(stack[z].shape)
    for value in (0.0, 0.5, 1.0):
        y, x = rng.integers(height), rng.integers(width)
        stack[..., y : y + max(1, height // 6), x : x + max(1, width // 6)] = value
    stack = to_dtype(np.clip(stack, 0, 1), dtype)
    stack.flags.writeable = False
    return stack


def pad_to_period(stack: Array, period: int) -> Array:
    """A stack (Z, C, Y, X) as the engine would hand it over: its edge repeated at the bottom and
    right up to a multiple of the period, read-only."""
    below, right = (-n % period for n in stack.shape[2:])
    padded: Array = np.pad(stack, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")
    padded.flags.writeable = False
    return padded


class LazyPlanes(PlaneByPlane):
    """A stack that is no array: every plane is read anew when it is indexed, as from a store."""

    def __init__(self, stack: Array) -> None:
        self._stack = stack
        self.shape, self.dtype = stack.shape, stack.dtype

    def __getitem__(self, z: int, /) -> Array:
        if not -len(self) <= z < len(self):
            raise IndexError(f"plane {z} of {len(self)}")
        plane: Array = self._stack[z].copy()
        plane.flags.writeable = False
        return plane


def overview(stack: Array) -> MemoryOverview:
    """What ``prepare`` would be shown of a small slide (Z, C, Y, X)."""
    side = min(32, *stack.shape[2:])
    corners = [stack[..., :side, :side], stack[..., -side:, -side:]]
    return MemoryOverview(
        thumbnail=stack[..., ::2, ::2],
        patches=np.stack(corners),
        downsample=2.0,
        pixel_size_um=(0.25, 0.25),
        z_um=tuple(float(z) for z in range(len(stack))),
    )
