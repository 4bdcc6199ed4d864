"""A right fuser, and wrong ones: each breaks one law in a way that authors do."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from slidefusion.fuser import Footprint, Fused, PlaneRange, option


def top_of(dtype):
    """Largest value of a dtype."""
    return 1.0 if dtype.kind == "f" else np.iinfo(dtype).max


def shifted_sum(image, radius):
    """Sum over the window of (2 radius + 1)² px, in an order that is the same for every pixel."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        padded = np.pad(image, pad, mode="edge")
        length = image.shape[axis]
        image = np.zeros(image.shape)
        for k in range(2 * radius + 1):
            image += np.take(padded, range(k, k + length), axis)
    return image


@dataclass(frozen=True)
class Sharpest:
    """A right fuser: each pixel from the plane with the largest local Laplacian."""

    name: ClassVar[str] = "sharpest"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    device: ClassVar[str] = "cpu"
    radius: int = option(2, "window", minimum=1)

    @property
    def footprint(self) -> Footprint:
        return Footprint(halo=self.radius + 1)

    def working_bytes(self, planes, channels, height, width):
        return height * width * (120 + 4 * channels)

    def activity(self, plane):
        luma = plane.sum(axis=0, dtype=np.float64)
        padded = np.pad(luma, 1, mode="edge")
        sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        return shifted_sum(np.abs(sides - 4 * luma), self.radius)

    def __call__(self, stack):
        image = np.zeros(stack.shape[1:], stack.dtype)
        best = np.full(stack.shape[2:], -1.0)
        depth = np.zeros(stack.shape[2:], np.uint8)
        for z in range(len(stack)):
            plane = stack[z]
            activity = self.activity(plane)
            better = activity > best
            best[better] = activity[better]
            depth[better] = z
            np.copyto(image, plane, where=better)
        return Fused(image, depth)


@dataclass(frozen=True)
class HaloTooSmall(Sharpest):
    @property
    def footprint(self):
        return Footprint(halo=self.radius)


@dataclass(frozen=True)
class ReliesOnAGrid(Sharpest):
    """Chooses by blocks of 4 x 4 px that begin at the window's corner."""

    period: int = 1

    @property
    def footprint(self):
        return Footprint(halo=self.radius + 1 + 4, period=self.period)

    def activity(self, plane):
        fine = super().activity(plane)
        height, width = fine.shape
        coarse = np.pad(fine, ((0, -height % 4), (0, -width % 4)), mode="edge")
        coarse = coarse.reshape(coarse.shape[0] // 4, 4, coarse.shape[1] // 4, 4).sum(axis=(1, 3))
        return coarse.repeat(4, 0).repeat(4, 1)[:height, :width]


@dataclass(frozen=True)
class GlobalStatistics(Sharpest):
    """Takes a brightness out of the whole window."""

    def activity(self, plane):
        return np.abs(plane.sum(axis=0, dtype=np.float64) - plane.sum(axis=0).mean())


@dataclass(frozen=True)
class RunningSums(Sharpest):
    """A box filter by cumulative sums of float32, which depend on where they began."""

    def __call__(self, stack):
        total = sum(plane.astype(np.float32) for plane in stack) / np.float32(len(stack) * 3)
        sums = np.cumsum(np.pad(total, ((0, 0), (0, 0), (2, 1)), mode="edge"), axis=2)
        mean = np.diff(sums[:, :, 2:], axis=2, prepend=0)[:, :, : total.shape[2]]
        return Fused(mean.astype(stack.dtype))

    @property
    def footprint(self):
        return Footprint(halo=4)


@dataclass(frozen=True)
class Random(Sharpest):
    """Breaks ties, it thinks, by chance."""

    def activity(self, plane):
        return super().activity(plane) * (1 + random.random())


@dataclass(frozen=True)
class WritesItsInput(Sharpest):
    def __call__(self, stack):
        for plane in stack:
            plane //= 2
        return super().__call__(stack)


@dataclass(frozen=True)
class NeedsWriteable(Sharpest):
    """As a kernel that was compiled for writeable arrays only."""

    def activity(self, plane):
        if not plane.flags.writeable:
            raise ValueError("buffer source array is read-only")
        return super().activity(plane)


@dataclass(frozen=True)
class WrongDtype(Sharpest):
    def __call__(self, stack):
        return Fused(super().__call__(stack).image.astype(np.float64))


@dataclass(frozen=True)
class Trims(Sharpest):
    def __call__(self, stack):
        return Fused(super().__call__(stack).image[:, 1:])


@dataclass(frozen=True)
class ReturnsAnArray(Sharpest):
    def __call__(self, stack):
        return super().__call__(stack).image


@dataclass(frozen=True)
class WrapsAround(Sharpest):
    """Brightens, and forgets to clip."""

    def __call__(self, stack):
        image = super().__call__(stack).image
        brighter = image * 1.1
        if image.dtype.kind == "u":
            brighter %= top_of(image.dtype) + 1
        return Fused(brighter.astype(image.dtype))


@dataclass(frozen=True)
class GivesNaN(Sharpest):
    def __call__(self, stack):
        fused = super().__call__(stack)
        if stack.dtype.kind == "f":
            fused.image[:, 0, 0] = np.nan
        return fused


@dataclass(frozen=True)
class CountsFromOne(Sharpest):
    def __call__(self, stack):
        fused = super().__call__(stack)
        return Fused(fused.image, fused.depth + np.uint8(1))


@dataclass(frozen=True)
class FloatDepth(Sharpest):
    def __call__(self, stack):
        fused = super().__call__(stack)
        return Fused(fused.image, fused.depth.astype(np.float32))


@dataclass(frozen=True)
class WeightsAboveOne(Sharpest):
    def __call__(self, stack):
        image = super().__call__(stack).image
        return Fused(np.clip(image * 1.02, 0, top_of(image.dtype)).astype(image.dtype))


@dataclass(frozen=True)
class Blurriest(Sharpest):
    def activity(self, plane):
        return 1 / (1 + super().activity(plane))


@dataclass(frozen=True)
class Mean(Sharpest):
    def __call__(self, stack):
        total = sum(plane.astype(np.float64) for plane in stack)
        return Fused((total / len(stack)).astype(stack.dtype))


@dataclass(frozen=True)
class BackwardsDepth(Sharpest):
    def __call__(self, stack):
        fused = super().__call__(stack)
        return Fused(fused.image, np.uint8(len(stack) - 1) - fused.depth)


@dataclass(frozen=True)
class DeclaresNoMemory(Sharpest):
    def working_bytes(self, planes, channels, height, width):
        return 0


@dataclass(frozen=True)
class HoldsAllPlanes(Sharpest):
    """Declares memory for a plane by plane fuser, but loads all of them."""

    def working_bytes(self, planes, channels, height, width):
        return height * width * (60 + 4 * channels)

    def __call__(self, stack):
        return Fused(np.asarray(stack)[0].copy())


@dataclass(frozen=True)
class ForgetsAMask(Sharpest):
    """Declares the image and one map of 8 bytes a pixel, and makes a mask of 1 byte as well."""

    def working_bytes(self, planes, channels, height, width):
        return height * width * (8 + 4 * channels)

    def __call__(self, stack):
        image = np.array(stack[0], dtype=stack.dtype)
        total = np.zeros(stack.shape[2:], np.float64)
        mask = np.zeros(stack.shape[2:], bool)
        image[:, mask] = total[mask]
        return Fused(image)


@dataclass(frozen=True)
class HoldsALock(Sharpest):
    lock: Any = dataclasses.field(default_factory=threading.Lock, compare=False)


@dataclass(frozen=True)
class PicklesItsWeights(Sharpest):
    def __call__(self, stack):
        object.__setattr__(self, "weights", np.zeros(100_000))
        return super().__call__(stack)


@dataclass
class Mutable:
    """The right one, but for ``frozen=True``."""

    name: ClassVar[str] = "sharpest"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    device: ClassVar[str] = "cpu"
    footprint: ClassVar[Footprint] = Footprint(halo=3)
    working_bytes = Sharpest.working_bytes

    def __call__(self, stack):
        return Sharpest()(stack)


class HasNoEquality(Mutable):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclass(frozen=True)
class ArrayOption(Sharpest):
    weights: Any = dataclasses.field(default_factory=lambda: np.ones(3), compare=False)


@dataclass(frozen=True)
class LosesAnOption(Sharpest):
    """Changes an option when it is made, each time anew."""

    def __post_init__(self):
        object.__setattr__(self, "radius", self.radius + 1)


@dataclass(frozen=True)
class RemembersTheLast(Sharpest):
    seen: ClassVar[dict[str, Any]] = {}

    def activity(self, plane):
        last, self.seen["width"] = self.seen.get("width"), plane.shape[2]
        return super().activity(plane) * (1 if last in (None, plane.shape[2]) else -1)


@dataclass(frozen=True)
class ReturnsItsBuffer(Sharpest):
    buffer: ClassVar[Any] = np.zeros(4_000_000, np.float64)

    def __call__(self, stack):
        image = super().__call__(stack).image
        out = self.buffer.view(image.dtype)[: image.size].reshape(image.shape)
        out[:] = image
        return Fused(out)


@dataclass(frozen=True)
class SharesABuffer(Sharpest):
    buffer: ClassVar[Any] = np.zeros(4_000_000, np.float64)

    def __call__(self, stack):
        image = super().__call__(stack).image
        out = self.buffer.view(image.dtype)[: image.size].reshape(image.shape)
        out[:] = image
        time.sleep(0.002)
        return Fused(out.copy())


@dataclass(frozen=True)
class FootprintIsANumber(Sharpest):
    @property
    def footprint(self):
        return 16


class HasNoWorkingBytes:
    name, planes, footprint, device = "lacking", PlaneRange(1), Footprint(), "cpu"

    def __call__(self, stack):
        return Fused(stack[0])


@dataclass(frozen=True)
class TakesNoPlanes(Sharpest):
    planes: ClassVar[PlaneRange] = PlaneRange(100_000)


@dataclass(frozen=True)
class CountsBytesInFloat(Sharpest):
    def working_bytes(self, planes, channels, height, width):
        return 1e6


@dataclass(frozen=True)
class Prepared(Sharpest):
    """A right fuser that learns a threshold of the whole slide."""

    threshold: float = 0.0

    def prepare(self, overview):
        return dataclasses.replace(self, threshold=float(overview.thumbnail.std()) / 1000)

    def activity(self, plane):
        return np.maximum(super().activity(plane), self.threshold)


@dataclass(frozen=True)
class PreparedByChannel(Sharpest):
    """A right fuser that learns one value a channel."""

    weights: tuple[float, ...] | None = None

    def prepare(self, overview):
        spread = overview.thumbnail.std(axis=(0, 2, 3))
        return dataclasses.replace(self, weights=tuple(map(float, 1 / (1 + spread))))

    def activity(self, plane):
        return super().activity(plane * np.reshape(self.weights, (len(plane), 1, 1)))

    def working_bytes(self, planes, channels, height, width):
        return height * width * (120 + 28 * channels)


@dataclass(frozen=True)
class PrepareChangesIt(Prepared):
    def prepare(self, overview):
        object.__setattr__(self, "threshold", 1.0)
        return self


@dataclass(frozen=True)
class PreparesByChance(Prepared):
    def prepare(self, overview):
        return dataclasses.replace(self, threshold=random.random())


@dataclass(frozen=True)
class PreparesANumPyNumber(Prepared):
    def prepare(self, overview):
        return dataclasses.replace(self, threshold=overview.thumbnail.max())
