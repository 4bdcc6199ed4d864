"""`dtcwt`: fusion in the dual-tree complex wavelet transform.

Every plane is split by :mod:`slidefusion.transforms.dtcwt` into complex details of six
orientations a level and a low pass; which plane a coefficient comes from is decided as
:mod:`slidefusion.fusers.subbands` says (Forster, Van De Ville, Berent, Sage & Unser 2004, Microsc.
Res. Tech. 65, fuse focus stacks by complex wavelets in this way). The magnitude of a complex
coefficient hardly depends on how a structure lies to the sampling grid, so decisions are steadier
than in the real transform, for about four times the work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Overview, PlaneRange, Planes, option
from slidefusion.fusers import subbands
from slidefusion.fusers.background import (
    background_bytes,
    fuse_unless_empty,
    glass_ranges,
    with_blocks,
)
from slidefusion.fusers.torch_device import DEVICES, check_device
from slidefusion.transforms import dtcwt
from slidefusion.transforms.dtcwt_filters import LEVEL1, QSHIFT, dual_tree

if TYPE_CHECKING:
    from slidefusion.fusers.subband_kernels import LevelSums

__all__ = ["Dtcwt"]

FloatArray = npt.NDArray[np.float32]

DEPTH_LEVEL = 2
"""The level whose decisions are the depth map: the finest one is noisy where there is little to
see, and coarser ones spread beyond what is in focus."""


@dataclass(frozen=True)
class Dtcwt:
    """Dual-tree complex wavelet fusion of any number of planes, in one pass.

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Dtcwt(levels=2)(stack).image.shape
    (3, 40, 50)
    """

    name: ClassVar[str] = "dtcwt"
    planes: ClassVar[PlaneRange] = PlaneRange(1)

    filters: str = option("near_sym_a", "filters of the finest level", choices=tuple(LEVEL1))
    qshift: str = option("qshift_a", "filters of the levels above it", choices=tuple(QSHIFT))
    levels: int = option(
        3,
        "levels of details; more of them choose between coarser blurs and cost a larger halo",
        minimum=1,
        maximum=8,
    )
    selection: str = option(
        "soft",
        "soft: mean of the planes weighted by activity ** power; max: the most active plane",
        choices=subbands.SELECTIONS,
    )
    power: int = option(
        8,
        "exponent of the activity in soft weights; the higher, the nearer to max",
        choices=(1, 2, 4, 8, 16, 32),
    )
    activity: str = option(
        "energy",
        "energy: root mean square of the details; magnitude: mean modulus of the complex ones",
        choices=subbands.ACTIVITIES,
    )
    window: int = option(
        1,
        "radius of the window that activity is averaged over, in coefficients",
        minimum=0,
        maximum=8,
    )
    consistency: int = option(
        1,
        "radius of the majority vote on a change of plane, in coefficients (selection=max only)",
        minimum=0,
        maximum=4,
    )
    noise: float = option(
        0.001,
        "activity, as a fraction of the dtype's range (1.0 for float), that counts as nothing",
        minimum=1e-6,
        maximum=1,
    )
    lowpass: str = option(
        "activity",
        "what is left below the levels: weighed like the coarsest of them, or the planes' mean",
        choices=subbands.LOWPASSES,
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
    device: str = option(
        "cpu",
        "cpu: compiled kernels; cuda: a GPU, by torch; torch-cpu: the GPU's code, for checking",
        choices=DEVICES,
    )

    def __post_init__(self) -> None:
        dual_tree(self.filters, self.qshift)
        check_device(self.device)
        if isinstance(self.glass, list):  # all that JSON has
            object.__setattr__(self, "glass", tuple(self.glass))

    @property
    def vote(self) -> int:
        """Radius in coefficients of the vote that is taken."""
        return self.consistency if self.selection == "max" else 0

    @property
    def footprint(self) -> Footprint:
        """Follows from the filters, ``levels``, ``window`` and ``consistency``; bit-exact."""
        tree = dual_tree(self.filters, self.qshift)
        halo = subbands.halo_px(
            self.levels,
            self.window + self.vote,
            lambda level: dtcwt.analysis_reach_px(tree, level),
            lambda level: dtcwt.synthesis_reach_px(tree, level),
        )
        footprint = Footprint(halo=halo, period=2**self.levels)
        return with_blocks(footprint) if self.background == "skip" else footprint

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes of one call, the result included.

        Counted for float32 and in the sizes of the padded window: two planes, their levels' low
        passes (8/3), one padded copy and the range of the planes (later the image, which is no
        larger), the sums (3 and all coarser levels: 4, and the low pass), the maps of each level,
        the rows held and the depth.

        On another device than ``"cpu"``, of the host and the device together.
        """
        if self.device != "cpu":
            from slidefusion.fusers import torch_dtcwt

            glass = background_bytes(planes, channels, height, width)
            return torch_dtcwt.working_bytes(self, channels, height, width) + glass
        period: int = 2**self.levels
        height, width = height + -height % period, width + -width % period
        pixels = height * width
        sums = channels * (4 * pixels + 4 * pixels // period**2)
        images = channels * 8 * pixels
        held = (2 * self.window + 2 * self.vote + 8) * 12 * channels * width // 2
        floats = sums + images + 2 * pixels + held + 64 * width
        return 4 * floats + background_bytes(planes, channels, height, width) + 2**16

    def prepare(self, overview: Overview) -> Self:
        """With ``glass`` as measured on the slide, unless it is given or nothing is skipped."""
        if self.background == "fuse" or self.glass is not None:
            return self
        return replace(self, glass=glass_ranges(overview))

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""
        if self.background == "fuse" or self.glass is None:
            return self._fuse(stack)
        return fuse_unless_empty(stack, self.glass, self._fuse)

    def _fuse(self, stack: Planes) -> Fused:
        if self.device != "cpu":
            from slidefusion.fusers import torch_dtcwt

            return torch_dtcwt.fuse(stack, self)
        from slidefusion.fusers import dtcwt_kernels as kernels
        from slidefusion.fusers.selection import confidence_of

        tree = dual_tree(self.filters, self.qshift)
        count, channels, height, width = stack.shape
        period: int = 2**self.levels
        padded = height + -height % period, width + -width % period
        shapes = dtcwt.level_shapes(self.levels, *padded)
        rule = subbands.rule_for(self.selection, self.power, self.window, self.noise)
        energy = self.activity == "energy"
        coefficients = (12 if energy else 6) * channels
        scale = subbands.activity_scale(energy, coefficients, stack.dtype)

        def add(
            source: FloatArray, low: FloatArray, level: int, z: int, last: bool, sums: LevelSums
        ) -> None:
            filters = tree.analysis(level)
            taps = filters.at, filters.weights, filters.parity, filters.step
            kernels.add_planes(source, low, z, last, scale, energy, rule, self.vote, *taps, sums)

        summed = subbands.sum_planes(
            stack,
            period,
            subbands.empty_sums(shapes, channels, 12, dtcwt.QUAD, self.lowpass),
            _load,
            add,
            clamp=self.clamp,
            parts=2,
        )
        image = summed.low
        for j in reversed(range(self.levels)):
            y, x = shapes[j]
            details = summed.levels[j].details.reshape(channels, 3, dtcwt.QUAD, y, x)
            finer = np.empty((channels, dtcwt.QUAD if j else 1, 2 * y, 2 * x), np.float32)
            for c in range(channels):
                dtcwt.synthesise(image[c], details[c], tree, j + 1, finer[c])
            image = finer
        fused = subbands.finish(summed, image[:, 0], stack.dtype, height, width)
        level = min(DEPTH_LEVEL, self.levels)
        block: int = 2**level
        index = summed.levels[level - 1].plane.astype(subbands.depth_dtype(count))
        sure = confidence_of(summed.levels[level - 1].total)
        depth, confidence = (
            np.ascontiguousarray(m.repeat(block, 0).repeat(block, 1)[:height, :width])
            for m in (index, sure)
        )
        return Fused(fused, depth, confidence)


def _load(plane: npt.NDArray[Any], source: FloatArray) -> None:
    from slidefusion.transforms.dtcwt_kernels import split_columns

    plane = np.ascontiguousarray(plane).view()
    plane.flags.writeable = False  # one compiled kernel for writable and read-only planes
    for channel, columns in zip(plane, source, strict=True):
        split_columns(channel, columns)
