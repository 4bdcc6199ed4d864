"""How every kernel of the package is compiled: in one place, because results depend on it.

No fast-math: reassociated or contracted arithmetic rounds the vectorised body of a loop and its
remainder differently, and then a pixel depends on where its window began. No threads of its own:
the tasks are the parallelism. The GIL is released, the machine code is cached on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

__all__ = ["kernel"]

_LOG = logging.getLogger("slidefusion")

_NOT_KEPT = (OSError, EOFError, LookupError, ValueError, pickle.UnpicklingError)
"""What numba's cache raises for a full disk, and for files that were not written to their end."""

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, for the types it is called with.

    Where nothing can be written (a read-only installation without a home directory, a full disk),
    the machine code is not kept and each process compiles anew, as it does what is damaged.
    """
    cache: Any = _KernelCache
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):
        compiled._cache = cache(function)
    return cast(F, compiled)


class _KernelCache(FunctionCache):
    """numba's cache, which notices when the file of a kernel changes, for kernels of several files.

    What a kernel calls and which constants it uses is part of its machine code, too. Without that
    an update of one file would leave the kernels of others as they were compiled with the old one.
    What cannot be read or written of it is compiled, and no error.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        known: Any = super()
        try:
            return known.load_overload(sig, target_context)
        except _NOT_KEPT as error:
            self._say("read", error)
            with contextlib.suppress(OSError):
                known.flush()  # an index that is damaged would be in the way of the new one
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        known: Any = super()
        try:
            known.save_overload(sig, data)
        except _NOT_KEPT as error:
            self._say("written", error)

    def _say(self, what: str, error: Exception) -> None:
        text = "machine code in %s cannot be %s (%s: %s): compiling"
        _LOG.warning(text, self.cache_path, what, type(error).__name__, error)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        found = "\n".join(sorted(set(_ingredients(self._py_func, set()))))
        known: Any = super()
        return *known._index_key(sig, codegen), hashlib.sha256(found.encode()).hexdigest()


def _ingredients(function: Callable[..., Any], seen: set[Any]) -> Iterator[str]:
    """The files of all kernels that this one is made of, and the constants that they use."""
    seen.add(function)
    file = Path(function.__code__.co_filename)
    stat = file.stat()
    yield f"{file} {stat.st_mtime_ns} {stat.st_size}"
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, Dispatcher):
            if value.py_func not in seen:
                yield from _ingredients(value.py_func, seen)
        elif value is not None and not callable(value) and not hasattr(value, "__file__"):
            yield f"{name} = {value!r}"
