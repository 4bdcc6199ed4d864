"""What `wt` and `dtcwt` share beside what all fusers in a transform do."""

from __future__ import annotations

from dataclasses import dataclass

from slidefusion.fuser import option
from slidefusion.fusers.subbands import ACTIVITIES
from slidefusion.fusers.transform_fuser import TransformFuser

__all__ = ["SubbandFuser"]


@dataclass(frozen=True)
class SubbandFuser(TransformFuser):
    """Further options, of a fuser that weighs the coefficients of oriented sub-bands."""

    activity: str = option(
        "energy",
        "energy: root mean square of the details; magnitude: their mean magnitude",
        choices=ACTIVITIES,
    )
    consistency: int = option(
        1,
        "radius of the majority vote on a change of plane, in coefficients (selection=max only)",
        minimum=0,
        maximum=4,
    )

    @property
    def vote(self) -> int:
        """Radius in coefficients of the vote that is taken."""
        return self.consistency if self.selection == "max" else 0
