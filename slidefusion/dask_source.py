"""Dask arrays (C, Z, Y, X) as sources of planes, whose blocks lie here or on a cluster."""

from __future__ import annotations

import sys
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import PlaneSource
from slidefusion.errors import StackError
from slidefusion.geometry import Window

__all__ = ["as_declared", "dask_source"]


def dask_source(array: Any) -> PlaneSource:
    """The array as a source: each read gets what it needs, in the thread that reads."""
    return _PersistedSource(array) if _is_persisted(array) else _ComputedSource(array)


def as_declared(part: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """What blocks of a Dask array gave, if it has the shape and the dtype that the array declares.

    Raises
    ------
    StackError
        It has others: rows would be made up, or values cut off.
    """
    found = np.asarray(part)
    if found.shape != shape or found.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise StackError(
            f"a part of the Dask array was computed to {found.dtype} of shape {found.shape}, and "
            f"the array declares {dtype} of shape {shape}: give the function that makes its blocks "
            "the chunks= and dtype= of what it returns"
        )
    return found.astype(dtype.newbyteorder("="), copy=False)


def _is_persisted(array: Any) -> bool:
    """Whether its blocks are what workers of a cluster hold (``array.persist()``)."""
    if "distributed" not in sys.modules:
        return False
    from distributed import Future

    # All blocks are futures or none is; a graph that is made when it is asked for is left alone.
    blocks = getattr(array.dask.layers.get(array.name), "mapping", {})
    return isinstance(next(iter(blocks.values()), None), Future)


class _ComputedSource:
    """Each read computes its part, in the thread that reads."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype.newbyteorder("=")

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        part = self.array[(slice(None), z, *window.slices)]
        try:
            found = part.compute(scheduler="synchronous")
        except ValueError as error:
            if "Missing dependency" not in str(error):
                raise
            raise StackError(
                "the Dask array is computed from what lies on a cluster, which a region cannot do "
                "by itself: call its persist() first, and fuse what that returns"
            ) from error
        return as_declared(found, part.shape, self.dtype)


class _PersistedSource:
    """Each read fetches the blocks that it meets from the workers that hold them, to here.

    It stays in this process: on a worker, to wait for blocks would take a thread from those who
    make them.
    """

    def __init__(self, array: Any) -> None:
        self.shape = array.shape
        self.dtype = array.dtype.newbyteorder("=")
        self.name = array.name
        self.futures = dict(array.dask.layers[array.name].mapping)
        self.starts = [np.cumsum((0, *sizes)).tolist() for sizes in array.chunks]

    def __reduce__(self) -> Any:
        raise StackError(
            "a Dask array that lies on a cluster (persist) cannot be written from there region by "
            "region: leave out= away and write the lazy result, or write the stack to a Zarr store "
            "first and fuse that"
        )

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        index = (slice(0, self.shape[0]), slice(z, z + 1), *window.slices)
        pieces = [
            _pieces(starts, at.start, at.stop)
            for starts, at in zip(self.starts, index, strict=True)
        ]
        met = list(product(*pieces))
        futures = [self.futures[(self.name, *(at for at, _, _ in piece))] for piece in met]
        part = np.empty([at.stop - at.start for at in index], self.dtype)
        for piece, block in zip(met, futures[0].client.gather(futures), strict=True):
            whole = [s[at + 1] - s[at] for s, (at, _, _) in zip(self.starts, piece, strict=True)]
            block = as_declared(block, tuple(whole), self.dtype)
            part[tuple(target for _, _, target in piece)] = block[tuple(s for _, s, _ in piece)]
        return part[:, 0]


def _pieces(starts: list[int], first: int, last: int) -> list[tuple[int, slice, slice]]:
    """Blocks that meet ``first`` to ``last``: number, and what they share, in block and part.

    >>> _pieces([0, 4, 8], 3, 6)
    [(0, slice(3, 4, None), slice(0, 1, None)), (1, slice(0, 2, None), slice(1, 3, None))]
    """
    found = []
    for number, (start, end) in enumerate(pairwise(starts)):
        low, high = max(first, start), min(last, end)
        if low < high:
            found.append(
                (number, slice(low - start, high - start), slice(low - first, high - first))
            )
    return found
