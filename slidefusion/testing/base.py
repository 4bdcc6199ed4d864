"""What every law shares: the fuser under test, the cases drawn for it, and how it fails."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from slidefusion.fuser import Fused, Fuser, PreparingFuser
from slidefusion.geometry import Window
from slidefusion.testing.cutting import fuse_window, tiling_of
from slidefusion.testing.stacks import focus_stack, overview, pad_to_period
from slidefusion.value_range import STACK_DTYPES

__all__ = ["Case", "ContractBase", "rms"]

Array = npt.NDArray[Any]

_EXEMPTABLE = ("identical_planes_are_an_identity", "lone_sharp_plane_wins")


@dataclass(frozen=True)
class Case:
    """One random slide."""

    seed: int
    planes: int
    channels: int
    height: int
    width: int
    dtype: str

    def stack(self) -> Array:
        """The slide: (Z, C, Y, X), read-only."""
        return focus_stack(
            self.seed, self.planes, self.channels, self.height, self.width, self.dtype
        )


class ContractBase:
    """The knobs of :class:`FuserContract`; override them in a subclass."""

    fuser_class: ClassVar[Callable[..., Fuser] | None] = None
    """The class (or function) that makes the fuser from its options."""
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Every configuration to prove, as keyword arguments."""
    dtypes: ClassVar[Sequence[str]] = STACK_DTYPES
    """Pixel types to try; every fuser has to take all three."""
    channels: ClassVar[Sequence[int]] = (1, 2, 3, 4)
    """Numbers of channels to try."""
    examples: ClassVar[int] = 16
    """Random slides a law; fewer for slow fusers, more before a release."""
    identity_tolerance: ClassVar[float] = 1e-5
    """How far identical planes may come out changed, as a fraction of the dtype's range; the
    default is exact for uint8 and uint16."""
    sharper_than: ClassVar[float] = 0.5
    """The fused image's RMS distance from a lone sharp plane, as a fraction of its distance from
    the nearest other plane, must stay below this."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """Laws that this fuser breaks on purpose, each with the reason, which pytest shows. Only
    ``identical_planes_are_an_identity`` and ``lone_sharp_plane_wins`` may be: a fuser that
    restores what no plane shows, say, is no identity. The other laws are what the engine relies
    on."""

    def make_fuser(self, **options: Any) -> Fuser:
        """The fuser to test; override it where a class is not enough (weights to find, say)."""
        made_by = type(self).fuser_class  # through the class, so that a function is not bound
        if made_by is None:
            raise TypeError(
                f"{type(self).__name__} has no fuser: set fuser_class, or override make_fuser"
            )
        return made_by(**options)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run every law once for each of ``options``."""
        if "options" not in metafunc.fixturenames:
            return
        for law, reason in self.exempt.items():
            if law not in _EXEMPTABLE or not reason.strip():
                raise pytest.UsageError(
                    f"{type(self).__name__}.exempt[{law!r}] = {reason!r}: only "
                    f"{' and '.join(_EXEMPTABLE)} may be exempt, and each needs a reason"
                )
        reason = self.exempt.get(metafunc.function.__name__.removeprefix("test_"), "")
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        cases = [
            pytest.param(dict(o), marks=marks, id=",".join(f"{k}={v}" for k, v in o.items()) or "-")
            for o in self.options
        ]
        metafunc.parametrize("options", cases)

    def ready_fuser(self, options: Mapping[str, Any], channels: int | None = None) -> Fuser:
        """The fuser as the engine would call it on stacks of so many channels, by default the most
        that are tried: prepared, if it wants to be."""
        fuser = self.make_fuser(**options)
        if isinstance(fuser, PreparingFuser):
            few = Case(1, fuser.planes.min, channels or max(self.channels), 64, 64, self.dtypes[0])
            return fuser.prepare(overview(few.stack()))
        return fuser

    def ready_fusers(self, options: Mapping[str, Any]) -> Callable[[int], Fuser]:
        """That fuser by the number of channels, each prepared once: it may have learnt something
        of every channel."""
        return functools.cache(lambda channels: self.ready_fuser(options, channels))

    def plane_counts(self, fuser: Fuser, least: int = 1) -> list[int]:
        """Up to four plane counts that the fuser takes, from ``least``."""
        return [n for n in range(max(least, fuser.planes.min), 64) if n in fuser.planes][:4]

    def cases(
        self, fuser: Fuser, heights_widths: st.SearchStrategy[tuple[int, int]], least: int = 1
    ) -> st.SearchStrategy[Case]:
        """Random slides of those sizes, with planes, channels and dtypes that the fuser takes."""

        def case(seed: int, planes: int, channels: int, size: tuple[int, int], dtype: str) -> Case:
            return Case(seed, planes, channels, size[0], size[1], dtype)

        return st.builds(
            case,
            st.integers(0, 2**16),
            st.sampled_from(self.plane_counts(fuser, least)),
            st.sampled_from(list(self.channels)),
            heights_widths,
            st.sampled_from(list(self.dtypes)),
        )

    def long_sizes(self, fuser: Fuser) -> st.SearchStrategy[tuple[int, int]]:
        """Sizes that a window cannot cover: more than two halos along one axis, little along the
        other, so that long halos stay affordable; or about one halo along both."""
        footprint = fuser.footprint
        long = max(64, 2 * footprint.halo + 4 * footprint.period + 40)
        lengths = st.integers(long // 2, long)
        short = st.integers(1, min(footprint.period, 64) + 16)
        medium = st.integers(1, min(footprint.halo + 2 * footprint.period + 24, 320))
        return st.one_of(
            st.tuples(lengths, short), st.tuples(short, lengths), st.tuples(medium, medium)
        )

    def small_sizes(self) -> st.SearchStrategy[tuple[int, int]]:
        """Sizes from one pixel up, one-pixel rows and columns among them."""
        side = st.one_of(st.just(1), st.integers(2, 70))
        return st.tuples(side, side)

    def check(self, law: Callable[[Any], None], cases: st.SearchStrategy[Any]) -> None:
        """Run ``law`` on ``examples`` random cases; a failing one is shrunk and shown."""
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
        configured = settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            suppress_health_check=checks,
            # Which lines ran says little about arrays.
            phases=[phase for phase in settings().phases if phase is not Phase.explain],
        )
        configured(given(cases)(law))()

    def window(self, fuser: Fuser, case: Case) -> Array:
        """The slide of a case as one window (Z, C, Y, X), ready to be handed to the fuser."""
        return pad_to_period(case.stack(), fuser.footprint.period)

    def fuse(self, fuser: Fuser, stack: Array) -> Fused:
        """The whole stack (Z, C, Y, X) in one piece, padded to the period as the engine does."""
        tiling = tiling_of(stack, max(stack.shape[2:]), fuser.footprint)
        return fuse_window(fuser, stack, tiling, Window(0, 0, *stack.shape[2:]))

    def fail(self, fuser: Fuser, message: str) -> NoReturn:
        """Fail with the fuser's name and options in front."""
        raise AssertionError(f"{fuser!r}: {message}")


def rms(a: Array, b: Array) -> float:
    """Root mean square difference of two arrays."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)))
