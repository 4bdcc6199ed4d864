"""What tasks share on its way to the workers of a cluster: pickled here, loaded there once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from slidefusion.errors import PluginError, SlidefusionError
from slidefusion.tasks.outcomes import Outcome, attempt_all

__all__ = ["Shared", "attempt_there", "pickled", "short"]


def pickled(job: Any) -> bytes:
    """What the tasks share, to be sent to workers. Raises ``PluginError`` if it cannot be."""
    from distributed.protocol.pickle import dumps

    try:
        return bytes(dumps(job))
    except SlidefusionError:
        raise
    except Exception as error:
        raise PluginError(
            "what the tasks share (fuser, reader or stack) cannot be sent to the workers of a "
            f"cluster: {short(error)}; it must be picklable: keep open files, locks and loaded "
            "weights out of its fields"
        ) from error


@functools.lru_cache(maxsize=8)
def _load(payload: bytes) -> tuple[Callable[..., Any], Any]:
    """A small job, unpickled once a process."""
    return _unpickled(payload)


def _unpickled(payload: bytes) -> tuple[Callable[..., Any], Any]:
    """The job; unpickling also finds out whether the process is fit for it."""
    from distributed.protocol.pickle import loads

    try:
        function, job, needs = loads(payload)
    except Exception as error:
        raise PluginError(
            f"this worker cannot load the task: {short(error)}; install there what is installed "
            "here"
        ) from error
    missing = [] if needs is None else needs.problems()
    if missing:
        raise PluginError(f"this worker {'; '.join(missing)}; install there what is installed here")
    return function, job


def attempt_there(payload: bytes | Shared, keys: Sequence[tuple[int, ...]]) -> list[Outcome]:
    """On a worker: load what the tasks share, and attempt those of these keys."""
    try:
        function, job = payload.load() if isinstance(payload, Shared) else _load(payload)
    except PluginError as error:
        return [Outcome("stop", error)]
    return attempt_all(function, job, keys)


def short(error: BaseException) -> str:
    """One line of it, for a message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


class Shared:
    """A large pickled job, as it lies on the workers of a run.

    It holds the unpickled one, too, so that a worker lets go of both when the run does.
    """

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self._lock = threading.Lock()
        self._loaded: tuple[Callable[..., Any], Any] | None = None

    def __reduce__(self) -> Any:
        return Shared, (self.payload,)

    def __sizeof__(self) -> int:  # by which Dask reckons with it
        return len(self.payload)

    def load(self) -> tuple[Callable[..., Any], Any]:
        """The job, unpickled once. Raises ``PluginError`` if it cannot be."""
        with self._lock:
            if self._loaded is None:
                self._loaded = _unpickled(self.payload)
            return self._loaded
