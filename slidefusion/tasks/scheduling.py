"""Running independent tasks to the end: on threads or on a cluster, with retries.

Tasks are submitted in a bounded window, so that a million of them do not sit in a scheduler, and
quick ones several at a time, since each submission costs milliseconds. What fails for a reason that
may pass is tried again, later and a bounded number of times, while the others go on; what fails for
good is reported after the others are finished. Each task has its own outcome, however it was sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import logging
import math
import queue
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slidefusion.errors import ProcessingError, SlidefusionError
from slidefusion.tasks.clients import out_of_the_way
from slidefusion.tasks.interrupt import check_stop
from slidefusion.tasks.outcomes import BATCH_SECONDS, Outcome
from slidefusion.tasks.pools import ClusterPool, Key, Pool, ThreadPool
from slidefusion.tasks.requirements import Requirement

__all__ = ["run_tasks"]

_LOG = logging.getLogger("slidefusion")

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 60.0
_CHECK_SECONDS = 1.0
_LARGEST_BATCH = 32
_RECENT = 16
"""How many tasks the expected duration of the next ones is a mean of, about."""
_GIVE_UP_AFTER = 32
"""So many failures in a row, none finished between: the fault is not that of single regions."""


def run_tasks(
    function: Callable[..., Any],
    job: Any,
    keys: Sequence[Key],
    *,
    client: Any | None,
    name: str,
    retries: int = 3,
    resources: Mapping[str, float] | None = None,
    threads: int | None = None,
    needs: Requirement | None = None,
    give_up_after: int = _GIVE_UP_AFTER,
    describe: Callable[[Key], str] | None = None,
    on_outcome: Callable[[Key, Outcome], None] | None = None,
) -> None:
    """Call ``function(job, *key)`` for every key, and again where the error may pass.

    Parameters
    ----------
    function, job, keys
        The task: a function that a worker can import, what all tasks share (pickled once), and what
        is each one's own.
    client
        A ``dask.distributed.Client``, or None for this machine's threads.
    name
        Of the tasks, for messages and for Dask's dashboard.
    retries
        How often a task is repeated whose error may pass.
    resources
        Run only on workers that declare these, for example ``{"GPU": 1}``.
    threads
        How many tasks run at once without a client; as Dask is set if None.
    needs
        What each worker has to have installed; checked once in each of its processes.
    give_up_after
        So many tasks that failed for good, none finished between, end the others: 1 where nothing
        can be made of what the others give.
    describe
        Names a task by its key in messages.
    on_outcome
        Called in this thread after every attempt, with how it ended (``"done"`` once a key).

    Raises
    ------
    SlidefusionError
        After the other tasks are finished: what the first failed task raised, naming it and the
        number of others; an error that is not ours becomes a ``ProcessingError``.
    KeyboardInterrupt
        When this thread is stopped (see ``stopped_by``); what is running on threads ends
        first, where it looks.
    """
    if not keys:
        return
    pool: Pool = (
        ThreadPool(function, job, name, threads)
        if client is None
        else ClusterPool(function, job, name, client, resources, needs)
    )
    named = describe or (lambda key: f"{name} {key}")
    note = on_outcome or (lambda key, outcome: None)
    with out_of_the_way(client):
        _Run(pool, keys, name, named, retries, give_up_after, note).run()


class _Run:
    """The loop: what runs, what waits for its next attempt, what failed."""

    def __init__(
        self,
        pool: Pool,
        keys: Sequence[Key],
        name: str,
        named: Callable[[Key], str],
        retries: int,
        give_up_after: int,
        on_outcome: Callable[[Key, Outcome], None],
    ) -> None:
        self.pool, self.name, self.named = pool, name, named
        self.give_up_after = give_up_after
        self.retries, self.on_outcome = retries, on_outcome
        self.total = len(keys)
        self.fresh = deque(keys)
        self.later: list[tuple[float, int, Key, int]] = []  # due, order, key, attempt
        self.order = itertools.count()
        self.running: dict[int, tuple[Sequence[Key], int, Any]] = {}  # keys, attempt, future
        self.ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.task_s = math.inf  # what a task takes, expected of the next ones
        self.failed: list[tuple[Key, Outcome]] = []
        self.finished = self.in_a_row = 0
        self.stopped = False

    def run(self) -> None:
        """Run all; raise for those that failed."""
        whole = False
        try:
            while not self.stopped:
                check_stop()
                self._fill()
                if not self.running and not self.later:
                    break
                self._collect()
            whole = not self.stopped
        finally:
            self._end(cancel=not whole)
        if self.failed:
            raise self._error()

    def _fill(self) -> None:
        capacity = self.pool.capacity()
        while len(self.running) < capacity:
            if self.later and self.later[0][0] <= time.monotonic():
                _, _, key, number = heapq.heappop(self.later)
                keys = [key]
            elif self.fresh:
                count = min(self._batch(), len(self.fresh))
                keys, number = [self.fresh.popleft() for _ in range(count)], 0
            else:
                return
            ticket, future = next(self.order), self.pool.submit(keys, number)
            self.running[ticket] = keys, number, future
            future.add_done_callback(lambda _, ticket=ticket: self.ended.put(ticket))

    def _batch(self) -> int:
        """How many tasks to send together: one until it is known that they are quick."""
        return max(1, min(_LARGEST_BATCH, int(BATCH_SECONDS / max(self.task_s, 1e-6))))

    def _learn(self, seconds: float) -> None:
        """Take note of what a task took: the mean, in which the latest count most."""
        known = math.isfinite(self.task_s)
        self.task_s = self.task_s + (seconds - self.task_s) / _RECENT if known else seconds

    def _collect(self) -> None:
        """Wait for the next ends, and deal with all that are there."""
        wait = _CHECK_SECONDS
        if self.later:
            wait = min(wait, max(0.0, self.later[0][0] - time.monotonic()) + 0.001)
        try:
            tickets = [self.ended.get(timeout=wait)]
        except queue.Empty:
            self.pool.check()
            return
        while not self.ended.empty():
            tickets.append(self.ended.get())
        batches = [self.running.pop(ticket) for ticket in tickets]
        ends = self.pool.outcomes([future for _, _, future in batches])
        for (keys, number, _), end in zip(batches, ends, strict=True):
            self._note_batch(keys, number, end)

    def _note_batch(self, keys: Sequence[Key], number: int, end: list[Outcome] | Outcome) -> None:
        if isinstance(end, Outcome) and len(keys) > 1:
            # Which of them ended the worker? Each alone will show; this was no attempt of its own.
            for key in keys:
                heapq.heappush(self.later, (time.monotonic(), next(self.order), key, number))
            return
        outcomes = [end] if isinstance(end, Outcome) else end
        self.fresh.extendleft(reversed(keys[len(outcomes) :]))  # those that were not begun
        for key, outcome in zip(keys, outcomes, strict=False):
            self._note(key, outcome.numbered(number))

    def _note(self, key: Key, outcome: Outcome) -> None:
        following = outcome.attempt + outcome.weight
        if outcome.verdict == "retry" and following > self.retries:
            outcome = dataclasses.replace(outcome, verdict="fail")
        self.on_outcome(key, outcome)
        if outcome.verdict == "done":
            self.finished += 1
            self.in_a_row = 0
            self._learn(outcome.seconds)
        elif outcome.verdict == "retry":
            delay = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**outcome.attempt)
            delay *= random.uniform(0.5, 1.5)  # many that failed together come back apart
            due = time.monotonic() + delay
            heapq.heappush(self.later, (due, next(self.order), key, following))
            _LOG.warning(
                "%s: attempt %d failed, the next one in %.1f s: %s",
                self.named(key),
                outcome.attempt + 1,
                delay,
                outcome.error,
            )
        else:
            self.failed.append((key, outcome))
            self.in_a_row += 1 if outcome.weight == 1 else _GIVE_UP_AFTER // 4
            self.stopped |= outcome.verdict == "stop" or self.in_a_row >= self.give_up_after
            _LOG.error("%s failed for good: %s", self.named(key), outcome.error)

    def _end(self, *, cancel: bool) -> None:
        """Stop; what is running on threads ends first, and what ended counts."""
        self.pool.close([future for _, _, future in self.running.values()], cancel=cancel)
        with contextlib.suppress(queue.Empty, ProcessingError):
            while True:
                ticket = self.ended.get_nowait()
                if ticket not in self.running:
                    continue
                keys, number, future = self.running.pop(ticket)
                if future.cancelled():
                    continue
                (end,) = self.pool.outcomes([future])
                for key, outcome in zip(keys, end if isinstance(end, list) else (), strict=False):
                    if outcome.verdict == "done":
                        self._note(key, outcome.numbered(number))

    def _error(self) -> SlidefusionError:
        self.failed.sort(key=lambda failure: failure[0])
        key, outcome = self.failed[0]
        error = outcome.error
        assert error is not None
        notes = [f"tried {outcome.attempt + 1} times"] if outcome.attempt else []
        if outcome.worker.partition("://")[1]:  # and not this process
            notes.append(f"{'last ' if notes else ''}on worker {outcome.worker}")
        tried = f" ({', '.join(notes)})" if notes else ""
        text = f"{self.named(key)}{tried}: {error}"
        count = len(self.failed)
        if count > 1:
            others = ", ".join(self.named(k) for k, _ in self.failed[1:4])
            text += f" [{count - 1} more failed: {others}{', …' if count > 4 else ''}]"
        left = self.total - self.finished - count
        if self.give_up_after > 1:  # else what the others gave is of no use
            text += (
                f" [{self.finished} of {self.total} were finished, {left} not begun: stopped early]"
                if left
                else f" [the other {self.finished} of {self.total} are finished]"
                if self.total > 1
                else ""
            )
        made: SlidefusionError = type(error)(text)
        made.__cause__ = error
        return made
