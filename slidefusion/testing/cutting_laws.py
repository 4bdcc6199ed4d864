"""The laws that make slides cuttable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from slidefusion.fuser import Fused, Fuser
from slidefusion.geometry import Window
from slidefusion.testing.base import Case, ContractBase
from slidefusion.testing.cutting import (
    diagnose,
    difference,
    fuse_window,
    halos_to_try,
    periods_to_try,
    tiling_of,
)
from slidefusion.value_range import value_range

__all__ = ["CuttingLaws"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Cut:
    """A slide and how to cut it."""

    case: Case
    region_px: int
    picks: tuple[float, ...]
    """Which regions to look at besides the first and the last: fractions of all of them."""


class CuttingLaws(ContractBase):
    """An output pixel depends only on the input within ``halo`` of it, on its position modulo
    ``period``, and on the fuser's own fields."""

    def test_tiles_equal_the_whole(self, options: dict[str, Any]) -> None:
        """Any region of any grid comes out as it does when the slide is fused in one piece."""
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))

        def law(cut: Cut) -> None:
            fuser, stack = ready(cut.case.channels), cut.case.stack()
            whole = self.fuse(fuser, stack)
            tiling = tiling_of(stack, cut.region_px, fuser.footprint)
            regions = list(tiling.regions())
            picked = {0, len(regions) - 1, *(int(p * len(regions)) for p in cut.picks)}
            for row, column in (regions[k] for k in sorted(picked)):
                region = tiling.region(row, column)
                part = fuse_window(fuser, stack, tiling, region)
                found = difference(part, whole, region, fuser.footprint.tolerance)
                if found:
                    self.fail(
                        fuser,
                        f"a tile differs from the whole of {cut.case}. Region {region} was fused "
                        f"from {tiling.window(region)}: {found} (allowed: tolerance "
                        f"{fuser.footprint.tolerance:g} of the range)",
                    )

        cuts = st.builds(
            Cut,
            self.cases(fuser, self.long_sizes(fuser)),
            st.integers(1, max(16, 2 * fuser.footprint.period + 5)),
            st.tuples(*[st.floats(0, 0.999)] * 2),
        )
        try:
            self.check(law, cuts)
        except AssertionError as error:
            reason = diagnose(ready(self.channels[0]), self._evidence(fuser))
            error.args = (f"{error}. Reason: {reason}.",)
            raise

    def test_input_beyond_the_halo_changes_nothing(self, options: dict[str, Any]) -> None:
        """Replacing all input further than ``halo`` from a pixel leaves that pixel as it was."""
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))
        halo = fuser.footprint.halo

        def law(drawn: tuple[Case, float, float]) -> None:
            case, down, across = drawn
            fuser, stack = ready(case.channels), case.stack()
            y, x = int(down * case.height), int(across * case.width)
            region = Window(y, x, min(3, case.height - y), min(3, case.width - x))
            near = (
                slice(max(0, y - halo), region.bottom + halo),
                slice(max(0, x - halo), region.right + halo),
            )
            noise = np.random.default_rng(case.seed).random(stack.shape)
            changed = (noise * value_range(stack.dtype)).astype(stack.dtype)
            changed[(..., *near)] = stack[(..., *near)]
            before, after = self.fuse(fuser, stack), self.fuse(fuser, changed)
            found = difference(_cut(after, region), before, region, fuser.footprint.tolerance)
            if found:
                self.fail(
                    fuser,
                    f"input further than the declared halo of {halo} px matters. In {case}, "
                    f"everything beyond it around {region} was replaced: {found}. "
                    "Declare the whole reach in footprint.halo (of all filters in a row), and use "
                    "no statistics of the whole window.",
                )

        fractions = st.floats(0, 0.999)
        self.check(law, st.tuples(self.cases(fuser, self.long_sizes(fuser)), fractions, fractions))

    def _evidence(self, fuser: Fuser) -> list[Array]:
        """Slides for the diagnosis, larger than any window that it tries."""
        footprint = fuser.footprint
        long = 2 * max(halos_to_try(footprint)) + 4 * max(periods_to_try(footprint)) + 32
        dtypes = self.dtypes if long < 1000 else self.dtypes[-1:]
        planes, channels = self.plane_counts(fuser)[-1], self.channels[0]
        return [
            Case(k, planes, channels, *size, dtype).stack()
            for k, dtype in enumerate(dtypes)
            for size in ((long, 24), (24, long))
        ]


def _cut(fused: Fused, region: Window) -> Fused:
    depth = None if fused.depth is None else fused.depth[region.slices]
    maps = {name: found[(..., *region.slices)] for name, found in fused.maps.items()}
    return Fused(fused.image[(slice(None), *region.slices)], depth, maps=maps)
