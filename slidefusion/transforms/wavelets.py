"""Filter banks of the separable wavelet transform: PyWavelets' coefficients, arranged for rows.

Any discrete wavelet of PyWavelets can be named (haar, db1 … db38, sym2 …, coif1 …, bior…, rbio…,
dmey). Its four filters have one even length L. Two rules for the border are known:

- ``"symmetric"``: half-sample symmetric; a level of n samples gives (n + L - 1) // 2 coefficients
  a band, and every wavelet reconstructs perfectly (dmey, an approximation, nearly);
- ``"periodization"``: periodic, (n + 1) // 2 coefficients, no redundancy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, near_match

__all__ = ["MODES", "FilterBank", "Taps", "arrange", "filter_bank", "stack"]

MODES = ("symmetric", "periodization")


@dataclass(frozen=True, eq=False)
class Taps:
    """Two filters that read the same samples."""

    at: npt.NDArray[np.int64]
    """(T,) positions of the samples relative to a base that the user of the taps names; T even."""
    weights: npt.NDArray[np.float32]
    """(2, T) coefficients of the two filters."""


def arrange(first: dict[int, float], second: dict[int, float]) -> Taps:
    """Arrange two filters, each a mapping from position to coefficient, as one :class:`Taps`.

    >>> arrange({0: 0.5, 1: 0.5}, {1: 1.0}).weights
    array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    positions = sorted({p for taps in (first, second) for p, value in taps.items() if value != 0})
    if len(positions) % 2:
        # The compiled loops take samples in pairs; the last is read again, with weight 0.
        positions.append(positions[-1])
    weights = np.zeros((2, len(positions)), np.float32)
    for row, taps in enumerate((first, second)):
        for position, value in taps.items():
            if value != 0:
                weights[row, positions.index(position)] = value
    return Taps(np.array(positions, np.int64), weights)


def stack(taps: Sequence[Taps]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Several taps as one pair of arrays, ``at`` (N, T) and ``weights`` (N, 2, T).

    Shorter ones read their last sample again, with weight 0.
    """
    length = max(len(one.at) for one in taps)
    at = [np.pad(one.at, (0, length - len(one.at)), mode="edge") for one in taps]
    weights = [np.pad(one.weights, ((0, 0), (0, length - len(one.at)))) for one in taps]
    return np.stack(at), np.stack(weights)


@dataclass(frozen=True, eq=False)
class FilterBank:
    """One wavelet's filters for one border rule."""

    periodic: bool
    """True for ``"periodization"``, False for ``"symmetric"``."""
    length: int
    """Length L of the filters in samples."""
    analysis: Taps
    """Low and high pass; coefficient k reads the samples 2k + ``at``."""
    synthesis_low: Taps
    """What the low-pass coefficients m + ``at`` give to the samples 2m and 2m + 1."""
    synthesis_high: Taps
    """What the high-pass coefficients m + ``at`` give to the samples 2m and 2m + 1."""

    def coefficients(self, samples: int) -> int:
        """How many coefficients a band has at the next level of ``samples`` samples.

        >>> filter_bank("db2").coefficients(16)
        9
        """
        return (samples + 1) // 2 if self.periodic else (samples + self.length - 1) // 2


@lru_cache(maxsize=64)
def filter_bank(wavelet: str, mode: str = "symmetric") -> FilterBank:
    """The filter bank of a discrete ``wavelet`` by PyWavelets' name.

    Raises:
        OptionError: the wavelet or the mode is unknown.
    """
    import pywt

    if mode not in MODES:
        raise OptionError(f"mode {mode!r} is unknown: it must be one of {', '.join(MODES)}")
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known:
        raise OptionError(
            f"wavelet {wavelet!r} is unknown{near_match(wavelet, known)}; allowed are PyWavelets' "
            "discrete wavelets: haar, db1-38, sym2-20, coif1-17, bior1.1-6.8, rbio1.1-6.8, dmey"
        )
    dec_lo, dec_hi, rec_lo, rec_hi = pywt.Wavelet(wavelet).filter_bank
    length = len(dec_lo)
    periodic = mode == "periodization"
    # PyWavelets' coefficient k is the sum over j of h[j] x[2k + first - j].
    first = length // 2 if periodic else 1
    return FilterBank(
        periodic=periodic,
        length=length,
        analysis=arrange(_reversed_from(first, dec_lo), _reversed_from(first, dec_hi)),
        synthesis_low=_synthesis(rec_lo, length - 1 - first),
        synthesis_high=_synthesis(rec_hi, length - 1 - first),
    )


def _reversed_from(first: int, taps: Iterable[float]) -> dict[int, float]:
    return {first - j: value for j, value in enumerate(taps)}


def _synthesis(taps: list[float], delay: int) -> Taps:
    # Sample n is the sum over k of g[n + delay - 2k] a[k]; n = 2m + phase.
    phases = []
    for phase in range(2):
        start = (phase + delay) % 2
        phases.append({(phase + delay - t) // 2: taps[t] for t in range(start, len(taps), 2)})
    return arrange(phases[0], phases[1])
