"""The laws of what comes out: shape, dtype, range, depth, and that fusing is fusing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from slidefusion.fuser import Fused
from slidefusion.testing.base import Case, ContractBase, rms
from slidefusion.testing.stacks import blur, texture, to_dtype
from slidefusion.value_range import value_range

__all__ = ["ImageLaws"]

Array = npt.NDArray[Any]


class ImageLaws(ContractBase):
    """Shapes, values and focus."""

    def test_image_has_the_shape_dtype_and_range_of_the_input(
        self, options: dict[str, Any]
    ) -> None:
        """(C, Y, X) of the input's dtype; no wrap-around, no NaN, nothing far outside."""
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))

        def law(case: Case) -> None:
            fuser = ready(case.channels)
            stack = self.window(fuser, case)
            fused = fuser(stack)
            if not isinstance(fused, Fused):
                self.fail(fuser, f"returned {type(fused).__name__}; return slidefusion.Fused")
            image = fused.image
            if not isinstance(image, np.ndarray) or image.shape != stack.shape[1:]:
                self.fail(
                    fuser,
                    f"returned an image {getattr(image, 'shape', type(image))} for a stack "
                    f"{stack.shape}; return (C, Y, X) with the stack's Y and X, untrimmed",
                )
            if image.dtype != stack.dtype:
                self.fail(
                    fuser,
                    f"returned {image.dtype} for {stack.dtype}; round, clip to the dtype's range, "
                    "and convert back",
                )
            # What no plane shows nearby cannot be the fused value, ringing aside.
            low, high = _nearby_range(stack)
            excess = np.maximum(low - image, image.astype(np.float64) - high)
            worst = float(np.max(np.nan_to_num(excess, nan=np.inf)))
            if worst > 0.5 * value_range(stack.dtype):
                c, y, x = np.unravel_index(int(np.argmax(excess)), excess.shape)
                self.fail(
                    fuser,
                    f"in {case} the value {image[c, y, x]} at (c={c}, y={y}, x={x}) is far from "
                    f"all planes within 2 px ({low[c, y, x]:g} to {high[c, y, x]:g}); integers "
                    "that wrap around? Clip before converting",
                )

        self.check(law, self.cases(fuser, self.small_sizes()))

    def test_depth_is_a_plane_index(self, options: dict[str, Any]) -> None:
        """(Y, X) integers from 0 to the number of planes - 1, or None."""
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))

        def law(case: Case) -> None:
            fuser = ready(case.channels)
            stack = self.window(fuser, case)
            depth = fuser(stack).depth
            if depth is None:
                return
            if depth.shape != stack.shape[2:] or depth.dtype.kind not in "iu":
                self.fail(
                    fuser,
                    f"returned a depth map {depth.shape} of {depth.dtype} for {stack.shape}; "
                    "return integers (Y, X), or None if it knows no depth",
                )
            if depth.min() < 0 or depth.max() >= case.planes:
                self.fail(
                    fuser,
                    f"returned depths from {depth.min()} to {depth.max()} for {case.planes} "
                    "planes; they are 0-based indices in the order of the planes given",
                )

        self.check(law, self.cases(fuser, self.small_sizes()))

    def test_identical_planes_are_an_identity(self, options: dict[str, Any]) -> None:
        """Fusing copies of one plane gives that plane."""
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))

        def law(case: Case) -> None:
            fuser = ready(case.channels)
            stack = np.repeat(case.stack()[:1], case.planes, axis=0)
            error = np.abs(self.fuse(fuser, stack).image.astype(np.float64) - stack[0])
            allowed = self.identity_tolerance * value_range(stack.dtype)
            if not error.max() <= allowed:
                c, y, x = np.unravel_index(int(error.argmax()), error.shape)
                self.fail(
                    fuser,
                    f"identical planes came out changed by {error.max():g} at (c={c}, y={y}, "
                    f"x={x}) in {case} (allowed {allowed:g}); do the weights sum to 1, does the "
                    "transform reconstruct perfectly, is the result rounded rather than cut off? "
                    "A fuser that restores on purpose says so in exempt, with the reason",
                )

        self.check(law, self.cases(fuser, self.small_sizes()))

    def test_lone_sharp_plane_wins(self, options: dict[str, Any]) -> None:
        """Among blurred copies, the sharp plane is the one that comes out."""
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))
        if 2 not in fuser.planes and not self.plane_counts(fuser, least=2):
            pytest.skip("takes one plane")

        def law(drawn: tuple[Case, float]) -> None:
            case, position = drawn
            rng = np.random.default_rng(case.seed)
            sharp = texture(rng, case.channels, case.height, case.width)
            winner = int(position * case.planes)
            planes = [
                sharp if z == winner else blur(sharp, 12 + 6 * abs(z - winner))
                for z in range(case.planes)
            ]
            stack = np.stack([to_dtype(plane, case.dtype) for plane in planes])
            fuser = ready(case.channels)
            fused = self.fuse(fuser, stack)
            distances = [rms(fused.image, plane) for plane in stack]
            nearest_other = min(d for z, d in enumerate(distances) if z != winner)
            if distances[winner] >= self.sharper_than * nearest_other:
                self.fail(
                    fuser,
                    f"plane {winner} is the only sharp one of {case}, but the fused image is "
                    f"{distances[winner]:.3g} (RMS) from it and {nearest_other:.3g} from a blurred "
                    f"one (must be below {self.sharper_than:g} of that); does the focus measure "
                    "grow with sharpness, and does the largest win? A fuser that is not meant to "
                    "choose says so in exempt, with the reason",
                )
            if fused.depth is not None and np.mean(fused.depth == winner) < 0.5:
                self.fail(
                    fuser,
                    f"plane {winner} is the only sharp one of {case}, but the depth map names it "
                    f"in {np.mean(fused.depth == winner):.0%} of the pixels; does it count from 0 "
                    "in the order of the planes given?",
                )

        sizes = st.tuples(st.integers(48, 96), st.integers(48, 96))
        cases = self.cases(fuser, sizes, least=2)
        self.check(law, st.tuples(cases, st.floats(0, 0.999)))


def _nearby_range(stack: Array) -> tuple[Array, Array]:
    """Least and largest value of all planes within 2 px, each (C, Y, X) in float64."""
    low = stack.min(axis=0).astype(np.float64)
    high = stack.max(axis=0).astype(np.float64)
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (2, 2)
        for image, extreme in ((low, np.minimum), (high, np.maximum)):
            shifts = np.lib.stride_tricks.sliding_window_view(
                np.pad(image, pad, mode="edge"), 5, axis=axis
            )
            image[:] = extreme.reduce(shifts, axis=-1)
    return low, high
