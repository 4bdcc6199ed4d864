"""How every kernel of the package is compiled: in one place, because results depend on it.

No fast-math: reassociated or contracted arithmetic rounds the vectorised body of a loop and its
remainder differently, and then a pixel depends on where its window began. No threads of its own:
the tasks are the parallelism. The GIL is released, the machine code is cached on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

__all__ = ["kernel"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, for the types it is called with.

    Where nothing can be written (a read-only installation without a home directory), the machine
    code is not kept and each process compiles anew.
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
    """

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
