"""What one task spent on reading, fusing and writing, measured where it ran."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource
from slidefusion.geometry import Window
from slidefusion.tasks.interrupt import check_stop

__all__ = ["Cost", "MeteredSource"]


@dataclass
class Cost:
    """Seconds and bytes of one task; tasks return it to the run that sent them.

    >>> cost = Cost()
    >>> with cost.timed("write_s"):
    ...     pass
    >>> cost.write_s >= 0
    True
    """

    read_s: float = 0.0
    """Reading and decoding, in seconds."""
    fuse_s: float = 0.0
    """Computing, in seconds."""
    write_s: float = 0.0
    """Halving, encoding and writing, in seconds."""
    read_bytes: int = 0
    """Pixels read, decoded, in bytes; the halo counts each time that it is read."""
    written_bytes: int = 0
    """Pixels written at level 0, before they are encoded, in bytes."""

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time spent inside to the field ``what``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - start)


class MeteredSource:
    """A plane source (C, Z, Y, X) that notes in ``cost`` what its reads take.

    A task whose run was stopped ends at its next read.
    """

    def __init__(self, source: PlaneSource, cost: Cost) -> None:
        self._source, self._cost = source, cost

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the source."""
        return self._source.dtype

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        """Plane ``z`` inside ``window``: (C, h, w)."""
        check_stop()
        with self._cost.timed("read_s"):
            plane = self._source.read(z, window)
        self._cost.read_bytes += plane.nbytes
        return plane
