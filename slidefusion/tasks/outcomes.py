"""One attempt at a task, and whether an error that ended it may pass.

An attempt never raises: it returns what happened, judged on the worker, where the causes of an
error are still at hand (they are lost when an exception travels between processes).
"""

from __future__ import annotations

import dataclasses
import errno
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, Literal

from slidefusion.errors import PluginError, ProcessingError, SlidefusionError, StackError

__all__ = [
    "BATCH_SECONDS",
    "Outcome",
    "Verdict",
    "attempt",
    "attempt_all",
    "came_from_store",
    "is_out_of_reach",
    "may_pass",
]

Verdict = Literal["done", "retry", "fail", "stop"]
"""Finished; failed but may pass; failed for good; failed as every other task would."""

BATCH_SECONDS = 0.1
"""What a batch of tasks should last: much longer than the few ms that a scheduler needs for it, and
too short for anybody to wait for."""

_STOP = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_FAIL = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.EFBIG,
}
# Their exceptions do not descend from OSError.
_NETWORK = (
    "aiobotocore",
    "aiohttp",
    "azure",
    "botocore",
    "gcsfs",
    "google",
    "obstore",
    "paramiko",
    "requests",
    "urllib3",
)
_STORES = {"zarr.storage._fsspec", "slidefusion.omezarr.ranged_store"}
"""Modules that ask stores at URLs."""
_NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_PASSING_STATUS = {408, 425, 429}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust's libraries (zarrs) say which errno


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a task ended."""

    verdict: Verdict
    error: SlidefusionError | None = None
    value: Any = None
    """What the task returned."""
    seconds: float = 0.0
    worker: str = ""
    """Where it ran: a worker's address, or ``"this process"``."""
    peak_bytes: int = 0
    """Largest resident size of that process so far."""
    attempt: int = 0
    """0 for the first attempt, 1 for the first retry, …"""
    weight: int = 1
    """How many attempts it counts as: the end of several workers counts more than an error."""

    def numbered(self, attempt: int) -> Outcome:
        """The same, as attempt number ``attempt``."""
        return dataclasses.replace(self, attempt=attempt)


def attempt(function: Callable[..., Any], job: Any, key: tuple[int, ...]) -> Outcome:
    """Call ``function(job, *key)`` once; whatever happens, say so."""
    start = time.perf_counter()
    error: SlidefusionError | None = None
    verdict: Verdict = "done"
    value = None
    try:
        value = function(job, *key)
    except SlidefusionError as raised:
        error, verdict = raised, may_pass(raised)
    except MemoryError as raised:
        error = ProcessingError(
            "out of memory; run fewer tasks at a time, or smaller ones (chunks= of fuse)"
        )
        error.__cause__, verdict = raised, "retry"
    except (Exception, SystemExit) as raised:  # a reader's sys.exit() is not ours
        error = ProcessingError(f"{type(raised).__name__}: {raised}")
        error.__cause__, verdict = raised, may_pass(raised)
    return Outcome(verdict, error, value, time.perf_counter() - start, _worker(), _peak_bytes())


def attempt_all(
    function: Callable[..., Any], job: Any, keys: Sequence[tuple[int, ...]]
) -> list[Outcome]:
    """Attempt these one after the other; an outcome for each that was begun, which are the first.

    No other is begun when the time of a batch is over, since they took longer than was expected of
    them, nor after one that failed as every other would.

    >>> [outcome.verdict for outcome in attempt_all(lambda job, k: 1 // k, None, [(1,), (0,)])]
    ['done', 'fail']
    """
    ended: list[Outcome] = []
    until = time.perf_counter() + BATCH_SECONDS
    for key in keys:
        ended.append(attempt(function, job, key))
        if ended[-1].verdict == "stop" or time.perf_counter() > until:
            break
    return ended


def may_pass(error: BaseException) -> Verdict:
    """``"retry"`` for errors that may pass, ``"stop"`` for those that every task would meet.

    >>> may_pass(OSError(5, "Input/output error")), may_pass(ValueError("bad"))
    ('retry', 'fail')
    >>> may_pass(OSError(28, "No space left on device"))
    'stop'
    """
    if isinstance(error, PluginError):
        return "stop"
    if isinstance(error, StackError):
        return "fail"
    for cause in _causes(error):
        verdict = _judge(cause)
        if verdict is not None:
            return verdict
    return "fail"


def is_out_of_reach(error: BaseException, *, remote: bool = False) -> bool:
    """Whether what was asked for cannot be had, now or by us, and nobody knows what it is like.

    ``remote`` says that it was asked of a store at a URL.

    >>> is_out_of_reach(PermissionError("Access Denied")), is_out_of_reach(ValueError("checksum"))
    (True, False)
    """
    if may_pass(error) == "retry":
        return True
    for cause in _causes(error):
        if isinstance(cause, PermissionError) or _is_of_a_network(cause):
            return True
        if came_from_store(cause) and not isinstance(cause, _NOT_THERE):
            return True
        # zarrs, which reads local files, calls what it cannot decode an OSError, without a number.
        numbered = isinstance(cause, OSError) and (remote or cause.errno)
        if numbered and not isinstance(cause, _NOT_THERE):
            return True
    return False


def came_from_store(error: BaseException) -> bool:
    """Whether a store at a URL raised it, and not zarr or a codec for what the store answered.

    It says nothing of the data then, whatever it is: libraries of stores raise a ``ValueError`` or
    ``TypeError`` as well, for an answer or a request that they do not know.
    """
    modules = {frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)}
    return not modules.isdisjoint(_STORES)


def _is_of_a_network(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _NETWORK


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it followed from, and of a group (zarr's of a shard's reads) its parts."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting.append(found.__cause__ or found.__context__)
        if isinstance(found, BaseExceptionGroup):
            waiting += reversed(found.exceptions)


def _judge(error: BaseException) -> Verdict | None:
    """What one exception of a chain says by itself; None when it says nothing."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "retry"
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        match = _OS_ERROR.search(str(error))
        number = int(match.group(1)) if match else None
    if number is not None:
        return "stop" if number in _STOP else "fail" if number in _FAIL else "retry"
    if isinstance(error, (ConnectionError, TimeoutError)):
        return "retry"
    if _is_of_a_network(error):
        status = _status(error)
        passing = status is None or status >= 500 or status in _PASSING_STATUS
        return "retry" if passing else "fail"
    return None


def _status(error: BaseException) -> int | None:
    """The HTTP status of a network library's exception, if it has one."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    response = getattr(error, "response", None)
    if status is None and isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _worker() -> str:
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            return str(get_worker().address)
        except ValueError:
            pass
    return "this process"


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
