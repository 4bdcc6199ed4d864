"""The Zarr stores that an object reads from when its pixels are asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from slidefusion.omezarr.sources import ZarrSource, place_of

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
        if isinstance(thing, _LEAVES) or id(thing) in seen:
            continue
        seen.add(id(thing))
        alive.append(thing)
        if isinstance(thing, ZarrSource):
            found[thing.path] = None
        elif (place := place_of(thing)) is not None:
            found[place] = None
        else:
            left.extend(_parts(thing))
    return list(found)


def _parts(thing: Any) -> Iterator[Any]:
    """What an object holds."""
    if isinstance(thing, dict):
        yield from thing.values()
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
    elif type(thing).__module__.partition(".")[0] not in _FOREIGN:
        yield from getattr(thing, "__dict__", {}).values()
        for name in _slots(type(thing)):
            yield getattr(thing, name, None)


def _slots(kind: type) -> list[str]:
    """Names of the attributes that objects of a class keep outside ``__dict__``."""
    slots = [base.__dict__.get("__slots__", ()) for base in kind.__mro__]
    names = [name for given in slots for name in ((given,) if isinstance(given, str) else given)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]
