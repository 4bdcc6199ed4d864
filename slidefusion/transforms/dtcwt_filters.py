"""Filters of the dual-tree complex wavelet transform.

Level 1 has odd-length biorthogonal filters, read at every sample so that the two trees are one
sample apart; the levels above have quarter-shift (Q-shift) filters, the second tree's being the
first's reversed.

Sources: N. G. Kingsbury, "Complex wavelets for shift invariant analysis and filtering of signals",
Appl. Comput. Harmon. Anal. 10(3), 2001 (near-symmetric and Q-shift); Antonini, Barlaud, Mathieu &
Daubechies, IEEE Trans. Image Process. 1(2), 1992 (antonini); Le Gall & Tabatabai, ICASSP 1988
(legall). The decimal values are those of the data files of the ``dtcwt`` package, version 0.14,
with this notice:

    Copyright (c) 2013, Rich Wareham <rjw57@cantab.net>. All rights reserved.

    Redistribution and use in source and binary forms, with or without modification, are permitted
    provided that the following conditions are met: 1. Redistributions of source code must retain
    the above copyright notice, this list of conditions and the following disclaimer. 2.
    Redistributions in binary form must reproduce the above copyright notice, this list of
    conditions and the following disclaimer in the documentation and/or other materials provided
    with the distribution.

    THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR
    IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY
    AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT OWNER OR
    CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR
    CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
    SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY
    THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR
    OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
    POSSIBILITY OF SUCH DAMAGE.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, near_match
from slidefusion.transforms.wavelets import Taps, arrange, stack

__all__ = ["LEVEL1", "QSHIFT", "Analysis", "DualTree", "Synthesis", "dual_tree"]

LEVEL1: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "near_sym_a": (
        (
            -0.05,
            0.25,
            0.6,
        ),
        (
            -0.010714285714285713,
            -0.05357142857142857,
            0.26071428571428573,
            0.6071428571428571,
        ),
    ),
    "near_sym_b": (
        (
            -0.0017578125,
            0.0,
            0.022265625,
            -0.046875,
            -0.0482421875,
            0.296875,
            0.55546875,
        ),
        (
            7.062639508928571e-05,
            0.0,
            -0.0013419015066964285,
            -0.0018833705357142855,
            0.007156808035714285,
            0.023856026785714284,
            -0.05564313616071428,
            -0.05168805803571428,
            0.29975760323660716,
            0.5594308035714286,
        ),
    ),
    "antonini": (
        (
            0.026748757410810106,
            -0.01686411844287467,
            -0.07822326652899052,
            0.2668641184428729,
            0.6029490182363593,
        ),
        (
            -0.04563588155712514,
            -0.02877176311424934,
            0.295635881557128,
            0.5575435262285023,
        ),
    ),
    "legall": (
        (
            -0.125,
            0.25,
            0.75,
        ),
        (
            0.25,
            0.5,
        ),
    ),
}
"""Analysis and synthesis low pass, of odd length and symmetric: the taps from the first to the
middle one."""

QSHIFT: dict[str, tuple[float, ...]] = {
    "qshift_06": (
        0.03516383657149474,
        0.0,
        -0.08832942445107285,
        0.23389032060723564,
        0.7602723690661257,
        0.5875182977235605,
        0.0,
        -0.11430183714424873,
        0.0,
        0.0,
    ),
    "qshift_a": (
        0.051130405283831656,
        -0.013975370246888838,
        -0.10983605166597087,
        0.26383956105893763,
        0.7666284677930372,
        0.5636557101270515,
        0.0008736226952170968,
        -0.1002312195074762,
        -0.0016896812725281543,
        -0.006181881892116438,
    ),
    "qshift_b": (
        0.003253142763653182,
        -0.00388321199915849,
        0.03466034684485349,
        -0.03887280126882779,
        -0.11720388769911527,
        0.27529538466888204,
        0.7561456438925225,
        0.5688104207121227,
        0.011866092033797,
        -0.1067118046866654,
        0.023825384794920298,
        0.01702522388155399,
        -0.005439475937274115,
        -0.004556895628475491,
    ),
    "qshift_c": (
        -0.0047616119384559135,
        -0.00044602278926228516,
        -7.144197327965012e-05,
        0.034914612306842195,
        -0.03727389579989796,
        -0.11591145742744076,
        0.2763686431330317,
        0.7563937651990367,
        0.567134484100133,
        0.01463740596447335,
        -0.11255888425752203,
        0.02228926326692271,
        0.018498682724156248,
        -0.0072026778782583465,
        -0.0002276522058977718,
        0.002430349945148675,
    ),
    "qshift_d": (
        -0.002284127440270531,
        0.0012098941630734423,
        -0.011834794515430786,
        0.0012834569993443994,
        0.044365221606616996,
        -0.05327610880304726,
        -0.1133058863621428,
        0.2809028632221865,
        0.7528160380878561,
        0.5658080673964587,
        0.024550152433666563,
        -0.12018854471079482,
        0.018156493945546453,
        0.03152637712208465,
        -0.006628794612430063,
        -0.0025761743066007948,
        0.0012775586538069982,
        0.002411869456666278,
    ),
}
"""Analysis low pass of the first tree, of even length."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """One level downwards: two trees, each a low- and a high-pass filter of the same samples."""

    at: npt.NDArray[np.int64]
    """(2, T): tree; the samples ``step * k`` + ``at`` are read. T is even."""
    weights: npt.NDArray[np.float32]
    """(2, 2, T): tree; low, high."""
    parity: npt.NDArray[np.int64]
    """(2, 2): tree; low, high. Whether result k is the even (0) or the odd (1) sample of the pair
    2k, 2k + 1."""
    step: int
    """Samples from k to k + 1: 2 at level 1, which does not decimate, and 4 above."""


@dataclass(frozen=True, eq=False)
class Synthesis:
    """One level upwards, in P pairs of new samples: 2k, 2k + 1 (level 1, P = 1), or 4k, 4k + 2 and
    4k + 1, 4k + 3 (above, P = 2)."""

    low_at: npt.NDArray[np.int64]
    """(P, T): the low-pass samples 2k + ``low_at`` are read. T is even."""
    low_weights: npt.NDArray[np.float32]
    """(P, 2, T): pair; what they give to the first and to the second of it."""
    high_at: npt.NDArray[np.int64]
    """(P, T), the same of the high-pass samples."""
    high_weights: npt.NDArray[np.float32]
    """(P, 2, T), the same of the high-pass samples."""


@dataclass(frozen=True, eq=False)
class DualTree:
    """All filters of one transform."""

    analysis1: Analysis
    """Downwards to level 1."""
    analysis2: Analysis
    """Downwards to every level above."""
    synthesis1: Synthesis
    """Upwards from level 1."""
    synthesis2: Synthesis
    """Upwards from every level above."""

    def analysis(self, level: int) -> Analysis:
        """The filters that lead down to ``level``; 1 is the finest."""
        return self.analysis1 if level == 1 else self.analysis2

    def synthesis(self, level: int) -> Synthesis:
        """The filters that lead up from ``level``; 1 is the finest."""
        return self.synthesis1 if level == 1 else self.synthesis2


@lru_cache(maxsize=32)
def dual_tree(level1: str = "near_sym_a", qshift: str = "qshift_a") -> DualTree:
    """The filters by their published names.

    >>> dual_tree("legall", "qshift_06").analysis1.weights.shape
    (2, 2, 6)

    Raises:
        OptionError: a name is unknown.
    """
    if level1 not in LEVEL1:
        raise OptionError(
            f"level-1 filters {level1!r} are unknown{near_match(level1, LEVEL1)}; allowed are "
            f"{', '.join(LEVEL1)}"
        )
    if qshift not in QSHIFT:
        raise OptionError(
            f"Q-shift filters {qshift!r} are unknown{near_match(qshift, QSHIFT)}; allowed are "
            f"{', '.join(QSHIFT)}"
        )
    h0, g0 = (half + half[-2::-1] for half in LEVEL1[level1])
    h1, g1 = _alternating(g0), _alternating(h0)
    return DualTree(
        analysis1=_level1_analysis(h0, h1),
        analysis2=_qshift_analysis(QSHIFT[qshift]),
        synthesis1=_level1_synthesis(g0, g1),
        synthesis2=_qshift_synthesis(QSHIFT[qshift]),
    )


Filter = tuple[float, ...]


def _alternating(low: Filter) -> Filter:
    # The high pass of a biorthogonal bank is the other bank's low pass with alternating signs,
    # the middle one kept.
    middle = len(low) // 2
    return tuple(value * (-1) ** (j - middle) for j, value in enumerate(low))


def _centred(taps: Filter, shift: int) -> dict[int, float]:
    middle = len(taps) // 2
    return {shift + middle - j: value for j, value in enumerate(taps)}


def _level1_analysis(low: Filter, high: Filter) -> Analysis:
    trees = [arrange(_centred(low, shift), _centred(high, shift)) for shift in range(2)]
    return Analysis(*stack(trees), np.array([[0, 0], [1, 1]]), 2)


def _level1_synthesis(low: Filter, high: Filter) -> Synthesis:
    return Synthesis(
        *stack([arrange(_centred(low, 0), _centred(low, 1))]),
        *stack([arrange(_centred(high, 0), _centred(high, 1))]),
    )


def _qshift_high(low: Filter) -> Filter:
    # The analysis high pass of the second tree; the first tree's is its reverse.
    return tuple(-value * (-1) ** j for j, value in enumerate(low))


def _qshift_analysis(low: Filter) -> Analysis:
    high = _qshift_high(low)
    length = len(low)
    # The second tree (b) reads the even samples, the first (a) the odd ones.
    trees = [
        arrange(
            {length + offset - 2 * j: value for j, value in enumerate(tree_low)},
            {length + offset - 2 * j: value for j, value in enumerate(tree_high)},
        )
        for offset, (tree_low, tree_high) in enumerate([(low[::-1], high), (low, high[::-1])])
    ]
    return Analysis(*stack(trees), np.array([[0, 1], [1, 0]]), 4)


def _qshift_synthesis(low: Filter) -> Synthesis:
    # The synthesis filters of a tree are the analysis filters of the other. The low pass of the
    # even pair reads the even low-pass samples, its high pass the odd high-pass samples.
    high = _qshift_high(low)
    return Synthesis(
        *stack([_qshift_pair(low, 1), _qshift_pair(low[::-1], 0)]),
        *stack([_qshift_pair(high[::-1], 0), _qshift_pair(high, 1)]),
    )


def _qshift_pair(taps: Filter, back: int) -> Taps:
    half = len(taps) // 2
    even = {half - back - 2 * q: value for q, value in enumerate(taps[0::2])}
    odd = {half - back - 2 * q: value for q, value in enumerate(taps[1::2])}
    if half % 2:
        return arrange(even, odd)
    return arrange(
        {position - 1: value for position, value in odd.items()},
        {position + 1: value for position, value in even.items()},
    )
