"""The Zarr stores that an object reads from when its pixels are asked for."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import zarr

from slidefusion.omezarr.sources import ZarrSource, place_of, store_around

__all__ = ["stores_in"]

_LEAVES = (
    *(type(None), bool, int, float, complex, str, bytes, slice, range, np.ndarray, np.generic),
    *(np.dtype, type, ModuleType, BuiltinFunctionType),
)
_FOREIGN = ("asyncio", "concurrent", "distributed", "logging", "threading", "tornado", "weakref")
"""Packages whose objects lead on to the whole process, and hold no pixels."""
_MOST = 1_000_000


def stores_in(root: Any) -> list[str]:
    """Paths and URLs of the Zarr stores in a Dask graph, or in any other object.

    It looks through attributes, containers, partial functions and closures without computing or
    reading anything, at a million objects at most. Not seen is what a function opens by itself from
    a name, what lies on a cluster (``persist``), and what a library keeps outside Python.
    """
    found: dict[str, None] = {}
    seen: set[int] = set()
    left = [root]
    alive = []  # attributes made when they are asked for: their ids must not be given twice
    while left and len(seen) < _MOST:
        thing = left.pop()
        # Attributes of a stranger may raise anything, and a run must not fail for that.
        with contextlib.suppress(Exception):
            if isinstance(thing, _LEAVES) or id(thing) in seen:
                continue
            seen.add(id(thing))
            alive.append(thing)
            place = _place(thing)
            if place is not None:
                found[place] = None
            else:
                left.extend(_parts(thing))
    if left:
        logging.getLogger("slidefusion").warning(
            "the input has more than %d parts, of which the rest was not looked through for stores "
            "that it reads: see to it that it is not read from the output's place",
            _MOST,
        )
    return list(found)


def _place(thing: Any) -> str | None:
    """Where the store is that ``thing`` stands for."""
    if isinstance(thing, ZarrSource):
        return store_around(thing.path, thing.array)
    if isinstance(thing, (zarr.Array, zarr.Group, zarr.AsyncArray, zarr.AsyncGroup)):
        place = place_of(thing.store_path.store)
        return None if place is None else store_around(place, thing.store_path.path)
    return place_of(thing)


def _parts(thing: Any) -> Iterator[Any]:
    """What an object holds."""
    if type(thing).__name__ == "HighLevelGraph":  # the store is in a small layer: seen first
        yield from sorted(thing.layers.values(), key=len, reverse=True)
    elif isinstance(thing, dict):
        yield from list(thing.values())
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from thing
    elif isinstance(thing, FunctionType):
        yield from thing.__closure__ or ()
        yield from thing.__defaults__ or ()
        yield from (thing.__kwdefaults__ or {}).values()
    elif isinstance(thing, CellType):
        try:
            yield thing.cell_contents
        except ValueError:  # nothing was put in yet
            return
    elif isinstance(thing, MethodType):
        yield thing.__self__
    elif isinstance(thing, functools.partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif str(type(thing).__module__).partition(".")[0] not in _FOREIGN:
        with contextlib.suppress(Exception):  # not all have a __dict__
            yield from list(vars(thing).values())
        for name in _slots(type(thing)):
            with contextlib.suppress(Exception):  # nothing was put in yet
                yield getattr(thing, name)


def _slots(kind: type) -> list[str]:
    """Names of the attributes that objects of a class keep outside ``__dict__``."""
    names = []
    for base in kind.__mro__:
        given = base.__dict__.get("__slots__", ())
        for name in (given,) if isinstance(given, str) else given:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return [name for name in names if name not in ("__dict__", "__weakref__")]
