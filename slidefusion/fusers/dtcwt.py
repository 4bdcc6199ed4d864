"""`dtcwt`: fusion in the dual-tree complex wavelet transform.

Every plane is split by :mod:`slidefusion.transforms.dtcwt` into complex details of six
orientations a level and a low pass; which plane a coefficient comes from is decided as
:mod:`slidefusion.fusers.subbands` says (Forster, Van De Ville, Berent, Sage & Unser 2004, Microsc.
Res. Tech. 65, fuse focus stacks by complex wavelets in this way). The magnitude of a complex
coefficient hardly depends on how a structure lies to the sampling grid, so decisions are steadier
than in the real transform, for about four times the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Planes, option
from slidefusion.fusers import subbands
from slidefusion.fusers.subband_fuser import SubbandFuser
from slidefusion.fusers.transform_fuser import TorchTwin, finish
from slidefusion.tiling import round_up
from slidefusion.transforms import dtcwt
from slidefusion.transforms.dtcwt_filters import LEVEL1, QSHIFT, dual_tree
from slidefusion.value_range import depth_dtype

if TYPE_CHECKING:
    from slidefusion.fusers.subband_kernels import LevelSums

__all__ = ["Dtcwt"]

FloatArray = npt.NDArray[np.float32]

DEPTH_LEVEL = 2
"""The level whose decisions are the depth map: the finest one is noisy where there is little to
see, and coarser ones spread beyond what is in focus."""


@dataclass(frozen=True)
class Dtcwt(SubbandFuser):
    """Dual-tree complex wavelet fusion of any number of planes, in one pass.

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Dtcwt(levels=2)(stack).image.shape
    (3, 40, 50)
    """

    name: ClassVar[str] = "dtcwt"

    filters: str = option("near_sym_a", "filters of the finest level", choices=tuple(LEVEL1))
    qshift: str = option("qshift_a", "filters of the levels above it", choices=tuple(QSHIFT))
    window: int = option(
        1,
        "radius of the window that activity is averaged over, in coefficients",
        minimum=0,
        maximum=8,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        dual_tree(self.filters, self.qshift)

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
        return self._footprint(halo)

    def _fuse_bytes(self, channels: int, rows: int, columns: int) -> int:
        """Counted for float32: two planes, their levels' low passes (8/3), one padded copy and the
        range of the planes (later the image, which is no larger), the sums (3 and all coarser
        levels: 4, and the low pass), the maps of each level, the rows held and the depth."""
        period: int = 2**self.levels
        pixels = rows * columns
        sums = channels * (4 * pixels + 4 * pixels // period**2)
        images = channels * 8 * pixels
        held = (2 * self.window + 2 * self.vote + 8) * 12 * channels * columns // 2
        floats = sums + images + 2 * pixels + held + 64 * columns
        return 4 * floats + 2**16

    def _torch(self) -> TorchTwin:
        from slidefusion.fusers import torch_dtcwt

        return torch_dtcwt

    def _fuse(self, stack: Planes) -> Fused:
        from slidefusion.fusers import dtcwt_kernels as kernels
        from slidefusion.fusers.selection import confidence_of, repeated, rule_for

        tree = dual_tree(self.filters, self.qshift)
        count, channels, height, width = stack.shape
        period: int = 2**self.levels
        padded = round_up(height, period), round_up(width, period)
        shapes = dtcwt.level_shapes(self.levels, *padded)
        rule = rule_for(self.selection, self.power, self.window, self.noise_in(stack.dtype))
        energy = self.activity == "energy"
        coefficients = (12 if energy else 6) * channels
        scale = subbands.activity_scale(energy, coefficients, stack.dtype)

        def add(
            source: FloatArray, low: FloatArray, level: int, z: int, last: bool, sums: LevelSums
        ) -> None:
            filters = tree.analysis(level)
            taps = filters.at, filters.weights, filters.parity, filters.step
            kernels.add_planes(source, low, z, last, scale, energy, rule, self.vote, *taps, sums)

        levels = subbands.empty_sums(shapes, channels, 12, dtcwt.QUAD, self.lowpass)
        image, limits = subbands.sum_planes(
            stack,
            period,
            levels,
            _load,
            add,
            clamp=self.clamp,
            parts=2,
        )
        for j in reversed(range(self.levels)):
            y, x = shapes[j]
            details = levels[j].details.reshape(channels, 3, dtcwt.QUAD, y, x)
            finer = np.empty((channels, dtcwt.QUAD if j else 1, 2 * y, 2 * x), np.float32)
            for c in range(channels):
                dtcwt.synthesise(image[c], details[c], tree, j + 1, finer[c])
            image = finer
        fused = finish(image[:, 0], limits, stack.dtype, height, width)
        level = min(DEPTH_LEVEL, self.levels)
        block: int = 2**level
        index = levels[level - 1].plane.astype(depth_dtype(count))
        sure = confidence_of(levels[level - 1].total)
        depth, confidence = (repeated(one, block, height, width) for one in (index, sure))
        return Fused(fused, depth, confidence)


def _load(plane: npt.NDArray[Any], source: FloatArray) -> None:
    from slidefusion.transforms.dtcwt_kernels import split_columns

    plane = np.ascontiguousarray(plane).view()
    plane.flags.writeable = False  # one compiled kernel for writable and read-only planes
    for channel, columns in zip(plane, source, strict=True):
        split_columns(channel, columns)
