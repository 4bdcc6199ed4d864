"""How every kernel of the package is compiled: in one place, because results depend on it.

No fast-math: reassociated or contracted arithmetic rounds the vectorised body of a loop and its
remainder differently, and then a pixel depends on where its window began. No threads of its own:
the tasks are the parallelism. The GIL is released, the machine code is cached on disk.

The cache notices when the file of a kernel changes, but not when a kernel of another file that it
calls does: who edits a shared row kernel deletes the ``*.nbi`` files in ``__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba

__all__ = ["kernel"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, for the types it is called with.

    Where nothing can be written (a read-only installation without a home directory), the machine
    code is not kept and each process compiles anew.
    """
    compile_with = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        return cast(F, compile_with(cache=True)(function))
    except RuntimeError:
        return cast(F, compile_with()(function))
