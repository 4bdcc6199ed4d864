"""What the fusers in a transform share: `lpp`, `wt` and `dtcwt`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Overview, PlaneRange, Planes, option
from slidefusion.fusers.background import (
    background_bytes,
    fuse_unless_empty,
    glass_ranges,
    with_blocks,
)
from slidefusion.fusers.torch_device import DEVICES, check_device
from slidefusion.fusers.white import check_white, white_in
from slidefusion.tiling import round_up
from slidefusion.value_range import value_range, white_of

__all__ = ["Limits", "TorchTwin", "TransformFuser", "finish"]

Limits = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""The lowest and the highest value of the planes at each pixel, each (C, Y, X) of their dtype."""


class TorchTwin(Protocol):
    """A module that computes a fuser's result by torch, on the device that the fuser names."""

    def fuse(self, stack: Planes, fuser: Any, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""

    def working_bytes(self, fuser: Any, channels: int, rows: int, columns: int, /) -> int:
        """Upper bound of the bytes that this takes, for a window that is padded to the period."""


@dataclass(frozen=True)
class TransformFuser:
    """Options of a fuser that weighs planes by their activity, and what it does about glass.

    Subclasses declare their ``footprint``, fuse a window with compiled kernels in ``_fuse``, say in
    ``_fuse_bytes`` what that takes, and name in ``_torch`` the module that fuses on other devices.
    """

    planes: ClassVar[PlaneRange] = PlaneRange(1)

    levels: int = option(
        3,
        "levels of details; more of them choose between coarser blurs and cost a larger halo",
        minimum=1,
        maximum=8,
    )
    selection: str = option(
        "soft",
        "soft: mean of the planes weighted by activity ** power; max: the most active plane",
        choices=("soft", "max"),
    )
    power: int = option(
        8,
        "exponent of the activity in soft weights; the higher, the nearer to max",
        choices=(1, 2, 4, 8, 16, 32),
    )
    window: int = option(
        2,
        "radius of the window that activity is averaged over, in coefficients",
        minimum=0,
        maximum=8,
    )
    noise: float = option(
        0.001,
        "activity, as a fraction of white (255 for uint8), that counts as nothing",
        minimum=1e-6,
        maximum=1,
    )
    lowpass: str = option(
        "activity",
        "what is left below the levels: weighed like the coarsest of them, or the planes' mean",
        choices=("activity", "mean"),
    )
    clamp: bool = option(True, "keep each output value within the planes' values at that pixel")
    background: str = option(
        "skip",
        "skip: empty glass becomes the mean of the planes; fuse: it is fused like all else",
        choices=("skip", "fuse"),
    )
    glass: tuple[float, float] | None = option(
        None, "ranges of pixels and of 4 x 4 means in empty glass; measured on the slide if None"
    )
    white: float | None = option(
        None, "value that counts as white, of uint16 or float32; measured on the slide if None"
    )
    device: str = option(
        "cpu",
        "cpu: compiled kernels; cuda: a GPU, by torch; torch-cpu: the GPU's code, for checking",
        choices=DEVICES,
    )

    def __post_init__(self) -> None:
        check_device(self.device)
        check_white(self.white)
        if isinstance(self.glass, list):  # all that JSON has
            object.__setattr__(self, "glass", tuple(self.glass))

    def prepare(self, overview: Overview) -> Self:
        """With ``glass`` and ``white`` as measured on the slide, unless they are given.

        A camera of 12 bits fills a sixteenth of uint16. Activity that is no more than noise in a
        slide that fills uint16 is texture in one from such a camera.
        """
        glass, white = self.glass, self.white
        if white is None and overview.dtype != np.uint8:
            white = white_of(overview.patches)
        if self.background != "fuse" and glass is None:
            glass = glass_ranges(overview, white_in(overview.dtype, white))
        return replace(self, glass=glass, white=white)

    def noise_in(self, dtype: npt.DTypeLike) -> float:
        """``noise`` as a fraction of the range of ``dtype``."""
        if self.white is None or np.dtype(dtype) == np.uint8:
            return self.noise
        return self.noise * self.white / value_range(dtype)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes of one call, the result included.

        On another device than ``"cpu"``, of the host and the device together.
        """
        period: int = 2**self.levels
        rows, columns = round_up(height, period), round_up(width, period)
        if self.device == "cpu":
            fusing = self._fuse_bytes(channels, rows, columns)
        else:
            fusing = self._torch().working_bytes(self, channels, rows, columns)
        return fusing + background_bytes(channels, rows, columns)

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""
        if self.background == "fuse" or self.glass is None:
            return self._fuse_on_device(stack)
        return fuse_unless_empty(stack, self.glass, self._fuse_on_device)

    def _fuse_on_device(self, stack: Planes) -> Fused:
        return self._fuse(stack) if self.device == "cpu" else self._torch().fuse(stack, self)

    def _fuse(self, stack: Planes) -> Fused:
        raise NotImplementedError

    def _fuse_bytes(self, channels: int, rows: int, columns: int) -> int:
        raise NotImplementedError

    def _torch(self) -> TorchTwin:
        raise NotImplementedError

    def _footprint(self, halo: int) -> Footprint:
        """Of a transform that reaches so many px: bit-exact, on the grid of empty blocks."""
        footprint = Footprint(halo=halo, period=2**self.levels)
        return with_blocks(footprint) if self.background == "skip" else footprint


def finish(
    image: npt.NDArray[np.float32],
    limits: Limits | None,
    dtype: np.dtype[Any],
    height: int,
    width: int,
) -> npt.NDArray[Any]:
    """Clamp ``image`` (C, Y, X), round it unless ``dtype`` is float32, trim it to (C, y, x).

    ``image`` is used up. Without ``limits`` integers are clipped to the range of their dtype.
    """
    from slidefusion.fusers.lpp_kernels import to_integer

    if dtype.kind == "f":
        if limits is not None:
            np.clip(image, *limits, out=image)
        return image[:, :height, :width]
    if limits is None:
        highest = np.iinfo(dtype).max
        limits = np.zeros(image.shape, dtype), np.full(image.shape, highest, dtype)
    fused = np.empty((len(image), height, width), dtype)
    to_integer(image, *limits, fused)
    return fused
