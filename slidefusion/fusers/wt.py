"""`wt`: fusion in the separable wavelet transform.

Every plane is split by :mod:`slidefusion.transforms.dwt` into details of three orientations a
level and a low pass (Li, Manjunath & Mitra 1995, Graph. Models Image Process. 57(3)); which plane
a coefficient comes from is decided as :mod:`slidefusion.fusers.subbands` says.

The transform is not shift-invariant: the energy of an edge swings with its position between the
samples. The default window therefore spans five coefficients, and the default wavelet is short and
symmetric (Le Gall 5/3, ``bior2.2``), so that decisions lie where the details are. Both measurably
lessen halos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Planes, option
from slidefusion.fusers import subbands
from slidefusion.fusers.subband_fuser import SubbandFuser
from slidefusion.fusers.transform_fuser import TorchTwin, finish
from slidefusion.tiling import round_up
from slidefusion.transforms import dwt
from slidefusion.transforms.wavelets import FilterBank, filter_bank
from slidefusion.value_range import depth_dtype

__all__ = ["Wt", "nearest"]

FloatArray = npt.NDArray[np.float32]

DEPTH_LEVEL = 2
"""The level whose decisions are the depth map: the finest one is noisy where there is little to
see, and coarser ones spread beyond what is in focus."""


@dataclass(frozen=True)
class Wt(SubbandFuser):
    """Wavelet fusion of any number of planes, in one pass.

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Wt(levels=2)(stack).image.shape
    (3, 40, 50)

    Raises:
        OptionError: when constructed with an unknown wavelet.
    """

    name: ClassVar[str] = "wt"

    wavelet: str = option(
        "bior2.2", "any discrete wavelet of PyWavelets: haar, db2, sym4, bior4.4 …"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        filter_bank(self.wavelet)

    @property
    def footprint(self) -> Footprint:
        """Follows from the wavelet, ``levels``, ``window`` and ``consistency``; bit-exact."""
        bank = filter_bank(self.wavelet)
        halo = subbands.halo_px(
            self.levels,
            self.window + self.vote,
            lambda level: dwt.analysis_reach_px(bank, level),
            lambda level: dwt.synthesis_reach_px(bank, level),
        )
        return self._footprint(halo)

    def _fuse_bytes(self, channels: int, rows: int, columns: int) -> int:
        """Counted for float32: two planes, their levels' low passes, one padded copy and the range
        of the planes (later the image, which is no larger), the sums, the maps of each level, the
        rows held and the depth."""
        bank = filter_bank(self.wavelet)
        shapes = dwt.level_shapes(bank, self.levels, rows, columns)
        coefficients = sum(y * x for y, x in shapes)
        pixels = rows * columns
        sums = channels * (3 * coefficients + shapes[-1][0] * shapes[-1][1])
        images = channels * (5 * pixels + 2 * coefficients)
        held = (2 * self.window + 2 * self.vote + 8) * 3 * channels * shapes[0][1]
        floats = sums + images + 3 * coefficients + pixels + held + 64 * columns
        return 4 * floats + 2**16

    def _torch(self) -> TorchTwin:
        from slidefusion.fusers import torch_wt

        return torch_wt

    def _fuse(self, stack: Planes) -> Fused:
        from slidefusion.fusers import wt_kernels as kernels
        from slidefusion.fusers.selection import confidence_of, rule_for

        bank = filter_bank(self.wavelet)
        count, channels, height, width = stack.shape
        period: int = 2**self.levels
        padded = round_up(height, period), round_up(width, period)
        shapes = dwt.level_shapes(bank, self.levels, *padded)
        rule = rule_for(self.selection, self.power, self.window, self.noise_in(stack.dtype))
        energy = self.activity == "energy"
        scale = subbands.activity_scale(energy, 3 * channels, stack.dtype)
        taps = bank.analysis.at, bank.analysis.weights
        levels = subbands.empty_sums(shapes, channels, 3, 1, self.lowpass)
        image, limits = subbands.sum_planes(
            stack,
            period,
            levels,
            lambda plane, source: np.copyto(source[:, 0], plane),
            lambda source, low, _, z, last, sums: kernels.add_planes(
                source, low, z, last, scale, energy, rule, self.vote, *taps, sums
            ),
            clamp=self.clamp,
        )
        for sums, size in zip(reversed(levels), [*shapes[-2::-1], padded], strict=True):
            finer = np.empty((channels, 1, *size), np.float32)
            for c in range(channels):
                dwt.synthesise(image[c], sums.details[c], bank, finer[c])
            image = finer
        fused = finish(image[:, 0], limits, stack.dtype, height, width)
        level = min(DEPTH_LEVEL, self.levels)
        index = levels[level - 1].plane.astype(depth_dtype(count))
        y, x = (
            nearest(bank, level, n, m) for n, m in zip((height, width), index.shape, strict=True)
        )
        sure = confidence_of(levels[level - 1].total)
        depth, confidence = (np.ascontiguousarray(m[y[:, np.newaxis], x]) for m in (index, sure))
        return Fused(fused, depth, confidence)


def nearest(bank: FilterBank, level: int, pixels: int, coefficients: int) -> npt.NDArray[np.intp]:
    """The coefficient (``pixels``) of ``level`` in the middle of whose filter each pixel lies.

    Of 0 … ``coefficients`` - 1. Coefficient k of the first level is in the middle of the samples
    2k + 1 - (L - 1) / 2, and so on upwards.
    """
    step = 2**level
    twice_shift = (step - 1) * (bank.length - 3)
    nearest: npt.NDArray[np.intp] = (2 * np.arange(pixels) + twice_shift + step) // (2 * step)
    return nearest.clip(0, coefficients - 1)
