"""How every kernel of the package is compiled: in one place, because results depend on it.

No fast-math: reassociated or contracted arithmetic rounds the vectorised body of a loop and its
remainder differently, and then a pixel depends on where its window began. No threads of its own:
the tasks are the parallelism. The GIL is released, the machine code is cached on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["kernel"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, for the types it is called with."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
