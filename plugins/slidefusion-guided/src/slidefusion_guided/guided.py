"""``guided``: fusion of base and detail with weights from a guided filter.

S. Li, X. Kang, J. Hu, "Image Fusion with Guided Filtering", IEEE Trans. Image Process. 22 (2013)
2864-2875, for any number of planes. Equations below are theirs.

Every plane is split into a base (box mean) and a detail (the rest). The plane whose Laplacian is
strongest around a pixel is chosen there, and the map of where a plane was chosen is refined by a
guided filter with that plane as its guide: wide and smooth for the base, narrow and edge-true for
the detail. The fused image is the weighted mean of the bases plus that of the details.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slidefusion.fuser import Footprint, Fused, PlaneRange, Planes, option

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Guided", "reach_px"]

LUMA_RANGE = 65535
"""Luminance is held in integers from 0 to this, whatever the dtype of the planes."""


def reach_px(
    base_radius: int, base_weight_radius: int, detail_weight_radius: int, saliency_radius: int
) -> int:
    """How far in pixels the input around an output pixel influences it.

    A weight averages the linear models of windows up to one radius away, each of which was fitted
    to pixels up to one radius from its centre. Whether a plane was chosen there depends on its
    Laplacian (1 px) within the saliency's radius. The base reaches its own radius.

    >>> reach_px(15, 45, 7, 5)
    96
    """
    weights = 2 * max(base_weight_radius, detail_weight_radius) + saliency_radius + 1
    return max(base_radius, weights)


@dataclass(frozen=True)
class Guided:
    """Guided-filter fusion of any number of planes, which it reads twice, one at a time.

    The defaults are the paper's. Colour is fused with one set of weights, guided by luminance
    (Rec. 601 for three channels, else the mean of all).

    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 3, 40, 50), dtype=np.uint8)
    >>> Guided()(stack).image.shape
    (3, 40, 50)
    """

    name = "guided"
    planes = PlaneRange(1)
    device = "cpu"

    base_radius: int = option(
        15, "radius in px of the box mean that separates base from detail", minimum=1, maximum=63
    )
    base_weight_radius: int = option(
        45, "radius in px of the guided filter of the base's weights (r1)", minimum=1, maximum=63
    )
    base_weight_eps: float = option(
        0.3, "regularisation of the base's weights (eps1)", minimum=1e-7, maximum=10
    )
    detail_weight_radius: int = option(
        7, "radius in px of the guided filter of the detail's weights (r2)", minimum=1, maximum=63
    )
    detail_weight_eps: float = option(
        1e-6, "regularisation of the detail's weights (eps2)", minimum=1e-7, maximum=10
    )
    saliency_radius: int = option(
        5, "radius in px over which the Laplacian is averaged", minimum=1, maximum=15
    )
    saliency_sigma: float = option(
        5.0, "sigma in px of that Gaussian average", minimum=0.1, maximum=100
    )
    float_range: float = option(
        1.0, "value of white in float planes; integer planes know theirs", minimum=1e-6
    )

    @property
    def footprint(self) -> Footprint:
        """Follows from the radii. Bit-exact, because all window sums are sums of integers."""
        halo = reach_px(
            self.base_radius,
            self.base_weight_radius,
            self.detail_weight_radius,
            self.saliency_radius,
        )
        return Footprint(halo=halo)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes of one call; it does not grow with the planes."""
        maps = 50  # choice, depth, luminance, values, slope, offset, weights and their sums
        per_channel = 4 + 4 + 4  # sums of base and of detail, result
        rows = 64 * (width + 128)  # column sums
        return height * width * (maps + per_channel * channels) + rows + 2**20

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X); the depth is the plane of the largest detail weight."""
        from slidefusion_guided import kernels

        count, channels, height, width = stack.shape
        shape = (height, width)
        value_range = self._range(stack.dtype)
        chosen = self._choose(stack)

        best = np.zeros(shape, np.float32)  # largest detail weight so far …
        depth = chosen.copy()  # … and its plane
        slope, offset = np.empty(shape, np.int32), np.empty(shape, np.int32)
        weights = [np.empty(shape, np.float32) for _ in range(2)]
        weight_sums = [np.zeros(shape, np.float32) for _ in range(2)]
        sums = [np.zeros((channels, *shape), np.float32) for _ in range(2)]
        filters = (
            (self.base_weight_radius, self.base_weight_eps),
            (self.detail_weight_radius, self.detail_weight_eps),
        )
        # One grey level of an integer plane is one step, so that its box sums are exact; a float
        # is rounded to 2**-20 of its range, for the base only.
        steps = 1.0 if stack.dtype.kind == "u" else 2**20 / value_range
        present = np.bincount(chosen.ravel(), minlength=count)
        for z in range(count):
            if not present[z]:
                continue  # its weights are zero in this whole window, and all that they add
            plane = stack[z]
            luma = _luminance(plane, value_range)
            for weight, weight_sum, (radius, eps) in zip(
                weights, weight_sums, filters, strict=True
            ):
                kernels.fit(luma, chosen, z, radius, eps, slope, offset)
                kernels.refine(luma, chosen, z, radius, slope, offset, weight, weight_sum)
            del luma
            kernels.note_depth(weights[1], z, best, depth)
            for c in range(channels):
                values = plane[c].astype(np.float32)
                kernels.accumulate(
                    values,
                    self.base_radius,
                    steps,
                    weights[0],
                    weights[1],
                    sums[0][c],
                    sums[1][c],
                )
        del slope, offset, weights, best
        image = np.empty((channels, *shape), stack.dtype)
        for c in range(channels):
            for layer, weight_sum in zip(sums, weight_sums, strict=True):
                layer[c] /= weight_sum
            sums[0][c] += sums[1][c]
            if stack.dtype.kind == "u":
                np.rint(sums[0][c], out=sums[0][c])
                np.clip(sums[0][c], 0, value_range, out=sums[0][c])
            image[c] = sums[0][c]
        return Fused(image, depth)

    def _choose(self, stack: Planes) -> npt.NDArray[np.uint16]:
        """Index (Y, X) of the plane of largest saliency at each pixel (eqs 4 to 7)."""
        from slidefusion_guided import kernels

        shape = stack.shape[2:]
        value_range = self._range(stack.dtype)
        taps = kernels.integer_gaussian(self.saliency_radius, self.saliency_sigma)
        chosen, largest = np.zeros(shape, np.uint16), np.full(shape, -1, np.int32)
        edges = np.empty(shape, np.int32)
        for z in range(len(stack)):
            kernels.laplacian(_luminance(stack[z], value_range), edges)
            kernels.choose(edges, taps, z, largest, chosen)
        return chosen

    def _range(self, dtype: np.dtype[Any]) -> float:
        return float(np.iinfo(dtype).max) if dtype.kind == "u" else self.float_range


def _luminance(plane: npt.NDArray[Any], value_range: float) -> npt.NDArray[np.int32]:
    """Luminance (Y, X) from 0 to ``LUMA_RANGE`` of a plane (C, Y, X)."""
    channels = len(plane)
    shares = (0.299, 0.587, 0.114) if channels == 3 else (1 / channels,) * channels
    total = np.zeros(plane.shape[1:], np.float32)
    scaled = np.empty_like(total)
    for share, channel in zip(shares, plane, strict=True):
        # Elementwise, so the same whatever the window; clipped, so that sums of squares fit.
        np.clip(channel, 0, value_range, out=scaled, casting="same_kind")
        scaled *= np.float32(share * LUMA_RANGE / value_range)
        total += scaled
    np.rint(total, out=total)
    return total.astype(np.int32)
