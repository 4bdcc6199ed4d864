"""Where tasks run: this machine's threads, or the workers of a Dask cluster.

Both take a batch of keys and give a future with ``add_done_callback``; the loop that decides what
to run next, and what to run again, is in ``scheduling``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from slidefusion.errors import PluginError, ProcessingError, advise
from slidefusion.tasks.interrupt import check_stop, stopped_by
from slidefusion.tasks.outcomes import Outcome, attempt_all
from slidefusion.tasks.requirements import Requirement
from slidefusion.tasks.shipping import Shared, attempt_there, pickled, short

__all__ = [
    "ClusterPool",
    "Key",
    "Pool",
    "ThreadPool",
    "has_resources",
    "parallelism",
    "scheduler_gone",
    "workers_of",
]

_WINDOW = 16
"""Tasks submitted ahead for each thread: with 4, small tasks waited for the client (3.4 ms each
against 2.4), with 64 they gained little more."""
_SMALL_BYTES = 2**16
"""A job up to this size travels with every task; then no worker's end can lose it."""
_REFRESH_SECONDS = 5.0
_LONELY_SECONDS = 20.0
"""Time without any worker until a warning says so."""
_ABANDONED_SECONDS = 300.0
"""Time without any worker until the run gives up. A cluster that scales, or a queue that starts
workers again, may take minutes."""
_RECONNECT_SECONDS = 10.0

Key = tuple[int, ...]
"""What names a task among those of its run, and is handed to its function."""


def has_resources(worker: Mapping[str, Any], resources: Mapping[str, float]) -> bool:
    """Whether a worker, as the scheduler describes it, declares these.

    >>> has_resources({"resources": {"GPU": 1}}, {"GPU": 1}), has_resources({}, {"GPU": 1})
    (True, False)
    """
    own = worker.get("resources") or {}
    return all(own.get(name, 0) >= amount for name, amount in resources.items())


class Pool(Protocol):
    """Runs batches of tasks by their keys, those of a batch one after the other."""

    def capacity(self) -> int:
        """How many batches may be submitted and unfinished."""

    def submit(self, keys: Sequence[Key], number: int) -> Any:
        """Begin attempt ``number`` at a batch; a future with ``add_done_callback``."""

    def outcomes(self, futures: Sequence[Any]) -> list[list[Outcome] | Outcome]:
        """How these finished batches ended, in their order.

        A list for those of its tasks that were begun (see ``attempt_all``); an outcome by itself
        when the batch was lost as a whole, with its worker, say.
        """

    def check(self) -> None:
        """Raise ``ProcessingError`` when nothing can finish any more."""

    def close(self, unfinished: Sequence[Any], *, cancel: bool) -> None:
        """Let go of everything; with ``cancel`` what has not begun never does.

        ``unfinished`` are the futures whose end nobody has asked for yet.
        """


def workers_of(client: Any) -> dict[str, dict[str, Any]]:
    """What the scheduler says of every worker, by address.

    Raises
    ------
    ProcessingError
        When the scheduler does not answer.
    """
    try:
        return dict(client.scheduler_info(n_workers=-1)["workers"])
    except Exception as error:
        raise scheduler_gone(client) from error


def parallelism(client: Any | None) -> int:
    """How many tasks run at once in one process."""
    if client is None:
        import dask
        from dask.system import CPU_COUNT

        return int(dask.config.get("num_workers", None) or CPU_COUNT)
    return max((int(w["nthreads"]) for w in workers_of(client).values()), default=1)


class ThreadPool:
    """This machine's threads; if not said, as many as Dask's setting ``num_workers`` says."""

    def __init__(
        self, function: Callable[..., Any], job: Any, name: str, threads: int | None = None
    ) -> None:
        self._attempt = functools.partial(attempt_all, function, job)
        self._stop = threading.Event()
        self._threads = threads or parallelism(None)
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, f"slidefusion-{name}")

    def capacity(self) -> int:
        """Of the protocol."""
        return self._threads * 2

    def submit(self, keys: Sequence[Key], number: int) -> Any:
        """Of the protocol."""
        return self._pool.submit(self._begin, keys)

    def _begin(self, keys: Sequence[Key]) -> list[Outcome]:
        with stopped_by(self._stop):
            try:
                return self._attempt(keys)
            except KeyboardInterrupt:
                if not self._stop.is_set():
                    raise
                return []  # ended by `close`, which is no failure of theirs

    def outcomes(self, futures: Sequence[Any]) -> list[list[Outcome] | Outcome]:
        """Of the protocol."""
        return [future.result() for future in futures]

    def check(self) -> None:
        """Threads do not get lost."""

    def close(self, unfinished: Sequence[Any], *, cancel: bool) -> None:
        """Waits for what is running, which, with ``cancel``, ends where it next looks."""
        if cancel:
            self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=cancel)


class ClusterPool:
    """The workers of a Dask cluster, only those with ``resources`` when some are given."""

    def __init__(
        self,
        function: Callable[..., Any],
        job: Any,
        name: str,
        client: Any,
        resources: Mapping[str, float] | None = None,
        needs: Requirement | None = None,
    ) -> None:
        self._client = client
        self._address = _address(client)
        self._name = name
        self._resources = dict(resources or {})
        # Two runs on one scheduler must not share keys. Dask's dashboard leaves the digits out.
        self._token = os.urandom(4).hex()
        payload = pickled((function, job, needs))
        self._small = len(payload) <= _SMALL_BYTES
        self._payload: Any = payload
        self._shared: Any = None
        self._capacity = 0
        self._asked = -_REFRESH_SECONDS
        self._met = time.monotonic()
        self._warned = False

    def capacity(self) -> int:
        """Of the protocol; follows the cluster as workers come and go."""
        now = time.monotonic()
        self.check()  # what is asked of a lost scheduler would wait for long
        if now - self._asked >= _REFRESH_SECONDS:
            self._asked = now
            suited = [
                worker
                for worker in workers_of(self._client).values()
                if has_resources(worker, self._resources)
            ]
            counts = [worker.get("metrics", {}).get("task_counts", {}) for worker in suited]
            busy = [count.get("executing", 0) > 0 for count in counts]
            paused = [worker.get("status") == "paused" for worker in suited]
            awake = [working or not held for working, held in zip(busy, paused, strict=True)]
            self._capacity = _WINDOW * max(1, sum(int(worker["nthreads"]) for worker in suited))
            self._notice(sum(awake), len(suited))
        return self._capacity

    def _notice(self, awake: int, there: int) -> None:
        """Say that no worker is left that runs anything after a while; give up after a long one.

        One that Dask pauses, for want of memory, begins nothing until there is room, if ever.
        """
        now = time.monotonic()
        if awake:
            self._met, self._warned = now, False
        elif now - self._met > _ABANDONED_SECONDS:
            state = "only paused workers, whose memory is nearly full," if there else "no worker"
            remedy = "give each fewer threads or more memory" if there else "start workers"
            raise ProcessingError(
                f"the cluster at {self._address} has had {state} that can run this for "
                f"{now - self._met:.0f} s; what is finished is kept and marked incomplete: "
                f"{remedy}, then run the same call again"
            )
        elif now - self._met > _LONELY_SECONDS and not self._warned:
            self._warned = True
            advise(
                f"all workers at {self._address} are paused by Dask, since their memory is nearly "
                "full: give each fewer threads, more memory, or smaller tasks (chunks= of fuse)"
                if there
                else f"no worker is left at {self._address}: waiting for new ones"
            )

    def submit(self, keys: Sequence[Key], number: int) -> Any:
        """Of the protocol."""
        more = [f"retry-{number}"] if number else []
        more += [f"and-{len(keys) - 1}-more"] if len(keys) > 1 else []
        name = (f"{self._name}-{self._token}", *keys[0], *more)
        job = self._job()
        try:
            return self._client.submit(
                attempt_there,
                job,
                keys,
                key=name,
                pure=False,
                resources=self._resources or None,
            )
        except Exception as error:
            raise scheduler_gone(self._client, self._address) from error

    def _job(self) -> Any:
        """The pickled job, or for a large one a reference to copies on the workers."""
        if self._small:
            return self._payload
        if self._shared is None or self._shared.status in ("cancelled", "lost", "error"):
            # Every worker that had a copy is gone: send it once more.
            self._shared = self._scatter()
        return self._shared

    def _scatter(self) -> Any:
        """Copies of the pickled job on the workers, however they come and go meanwhile."""
        deadline = time.monotonic() + _ABANDONED_SECONDS
        while True:
            while not workers_of(self._client):  # for which Dask would wait without a word
                self.capacity()
                check_stop()
                time.sleep(0.1)
            try:
                return self._client.scatter(Shared(self._payload), broadcast=True, hash=False)
            except Exception as error:  # a worker that is gone is a KeyError, none a TimeoutError
                self.check()
                if time.monotonic() > deadline:
                    raise ProcessingError(
                        f"what the tasks share ({len(self._payload) / 1e6:.0f} MB) cannot be sent "
                        f"to the workers at {self._address}: {short(error)}; what is finished is "
                        "kept and marked incomplete: run the same call again when they stay"
                    ) from error
                check_stop()
                time.sleep(0.5)

    def outcomes(self, futures: Sequence[Any]) -> list[list[Outcome] | Outcome]:
        """Of the protocol; fetched together, since each request costs a round trip."""
        found: dict[int, list[Outcome]] = {}
        self._met = time.monotonic()  # something ended, so somebody works
        whole = [k for k, future in enumerate(futures) if future.status == "finished"]
        with contextlib.suppress(Exception):  # one of them, say; then one by one, below
            gathered = self._gather([futures[k] for k in whole])
            found = dict(zip(whole, gathered, strict=True))
        return [
            found[k] if k in found else self._outcome(future) for k, future in enumerate(futures)
        ]

    def _gather(self, futures: Sequence[Any]) -> Any:
        """Results; what was lost with its worker is computed once more, which may take long."""
        while True:
            with contextlib.suppress(TimeoutError):
                return self._client.sync(
                    lambda: self._client.gather(futures, asynchronous=True),
                    callback_timeout=_RECONNECT_SECONDS,
                )
            check_stop()
            self.check()

    def _outcome(self, future: Any) -> list[Outcome] | Outcome:
        import distributed

        try:
            (result,) = self._gather([future])
            return cast(list[Outcome], result)
        except distributed.KilledWorker as error:
            return Outcome("retry", _killed(error), weight=2)
        except (ProcessingError, PluginError):
            raise
        except (concurrent.futures.CancelledError, asyncio.CancelledError, OSError) as error:
            self.check()
            # The copies of a large job may be lost as well, and the client not know of it.
            self._shared = None
            return Outcome("retry", ProcessingError(f"its worker was lost ({error})"))
        except Exception as error:
            return Outcome("fail", ProcessingError(f"it cannot run: {short(error)}"))

    def check(self) -> None:
        """Of the protocol: waits a little for a lost scheduler, then gives up."""
        deadline = time.monotonic() + _RECONNECT_SECONDS
        while self._client.status != "running":
            if self._client.status == "closed" or time.monotonic() > deadline:
                raise scheduler_gone(self._client, self._address)
            check_stop()
            time.sleep(0.1)

    def close(self, unfinished: Sequence[Any], *, cancel: bool) -> None:
        """Of the protocol; tasks that are running on a worker end there, unheard."""
        if cancel and self._client.status == "running":
            with contextlib.suppress(Exception):
                self._client.cancel(list(unfinished), force=True)
        self._shared = None


def _address(client: Any) -> str:
    return str(getattr(getattr(client, "scheduler", None), "address", "") or "its address")


def scheduler_gone(client: Any, address: str = "") -> ProcessingError:
    """What to raise when a client has nobody to talk to."""
    return ProcessingError(
        f"the Dask scheduler at {address or _address(client)} does not answer any more; what is "
        "finished is kept and marked incomplete: start a cluster, then run the same call again"
    )


def _killed(error: Any) -> ProcessingError:
    last = getattr(getattr(error, "last_worker", None), "address", "") or "a worker"
    return ProcessingError(
        f"its worker ended without a word, again and again (the last one was {last}); most often "
        "the machine was out of memory: give each worker fewer threads or more memory, or run "
        "smaller tasks (chunks= of fuse; see the worker's log)"
    )
