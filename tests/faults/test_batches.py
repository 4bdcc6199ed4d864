"""Quick tasks travel several at a time; each has its own outcome all the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidefusion.errors import ProcessingError
from slidefusion.tasks import outcomes, scheduling
from slidefusion.tasks.outcomes import Outcome, attempt_all
from slidefusion.tasks.scheduling import run_tasks

from .conftest import local_cluster
from .workload import note, noted


def _full_at_three(job: Any, key: int) -> int:
    if key == 3:
        raise OSError(28, "No space left on device")
    if key == 1:
        raise ValueError("a bug")
    return key


def test_a_batch_ends_where_every_task_would_fail() -> None:
    ended = attempt_all(_full_at_three, None, [(key,) for key in range(9)])
    assert [outcome.verdict for outcome in ended] == ["done", "fail", "done", "stop"]


def test_a_batch_ends_when_its_time_is_over() -> None:
    start = time.perf_counter()
    ended = attempt_all(lambda job, key: time.sleep(0.06), None, [(key,) for key in range(9)])
    assert 1 <= len(ended) <= 2 and time.perf_counter() - start >= outcomes.BATCH_SECONDS


class _Scripted:
    """A pool that loses batches, and ends them early, as it is told, one number a batch."""

    def __init__(self, script: Sequence[int], bad: set[int], killer: int | None) -> None:
        self.script, self.bad, self.killer = list(script), bad, killer
        self.sent: list[list[tuple[int, ...]]] = []

    def capacity(self) -> int:
        return 3

    def submit(self, keys: list[tuple[int, ...]], number: int) -> Any:
        self.sent.append(keys)
        step = self.script.pop() if self.script else 99
        future: Future[Any] = Future()
        if step == 0 or (self.killer,) in keys:
            future.set_result(Outcome("retry", ProcessingError("lost"), weight=2))
        else:
            future.set_result(
                [
                    Outcome("fail", ProcessingError("bad")) if k in self.bad else Outcome("done")
                    for (k,) in keys[:step]
                ]
            )
        return future

    def outcomes(self, futures: Sequence[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def check(self) -> None:
        pass

    def close(self, unfinished: Sequence[Any], *, cancel: bool) -> None:
        pass


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 200),
    script=st.lists(st.integers(0, 40), max_size=30),
    bad=st.sets(st.integers(0, 199), max_size=5),
    killer=st.none() | st.integers(0, 199),
)
def test_each_task_ends_once_whatever_becomes_of_batches(
    count: int, script: list[int], bad: set[int], killer: int | None
) -> None:
    pool = _Scripted(script, bad, killer)
    done: Counter[tuple[int, ...]] = Counter()
    ends: Counter[tuple[int, ...]] = Counter()
    tries: Counter[tuple[int, ...]] = Counter()

    def on_outcome(key: tuple[int, ...], outcome: Outcome) -> None:
        tries[key] += 1
        done[key] += outcome.verdict == "done"
        ends[key] += outcome.verdict != "retry"

    failing = {k for k in {*bad, killer} if k is not None and k < count}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduling, "ThreadPool", lambda *_: pool)
        patch.setattr(scheduling, "_FIRST_DELAY_SECONDS", 0.0)

        def run() -> None:
            run_tasks(
                None,
                None,
                [(k,) for k in range(count)],
                client=None,
                name="test",
                retries=99,  # what the script loses is no task's fault
                on_outcome=on_outcome,
            )

        if failing:
            with pytest.raises(ProcessingError, match=rf"test \({min(failing)},\)"):
                run()
        else:
            run()
    assert done == Counter((k,) for k in range(count) if k not in failing)
    assert ends == Counter((k,) for k in range(count))
    assert max((t for k, t in tries.items() if k != (killer,)), default=1) <= 1 + script.count(0)


def test_slow_tasks_travel_alone() -> None:
    pool = _Scripted([], set(), None)
    pool.outcomes = lambda futures: [  # type: ignore[method-assign]
        [Outcome("done", seconds=0.2)] * len(future.result()) for future in futures
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduling, "ThreadPool", lambda *_: pool)
        keys = [(k,) for k in range(50)]
        run_tasks(None, None, keys, client=None, name="test")
    assert pool.sent == [[key] for key in keys]


def _quick(notes: str, key: int) -> None:
    import os
    import signal

    if key == 250:
        note(notes, "killed")
        os.kill(os.getpid(), signal.SIGKILL)
    if key == 260 and note(notes, "once") == 1:
        raise OSError(5, "Input/output error")
    if key == 270:
        raise ValueError("a bug")


def test_a_task_that_kills_its_worker_among_quick_ones(tmp_path: Path) -> None:
    """Its batch is lost with it, and the others of that batch are finished all the same."""
    import dask
    import distributed  # noqa: F401 - first: its defaults are lost with settings older than they

    done: list[tuple[int, ...]] = []

    def note_done(key: tuple[int, ...], outcome: Outcome) -> None:
        if outcome.verdict == "done":
            done.append(key)

    with (
        # One task at a time on a worker: what waits there would be blamed for its end as well.
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 0,
                "distributed.scheduler.worker-saturation": 1.0,
            }
        ),
        local_cluster(2) as (_, client),
    ):
        submitted = []
        submit = client.submit
        client.submit = lambda *a, **more: submitted.append(a[2]) or submit(*a, **more)
        with pytest.raises(ProcessingError) as caught:
            run_tasks(
                _quick,
                str(tmp_path),
                [(k,) for k in range(400)],
                client=client,
                name="quick",
                retries=1,
                on_outcome=note_done,
            )
    text = str(caught.value)
    assert "quick (250,): its worker ended without a word" in text
    assert "1 more failed: quick (270,)" in text and "the other 398 of 400 are finished" in text
    assert sorted(done) == [(k,) for k in range(400) if k not in (250, 270)]
    assert any(len(keys) > 1 for keys in submitted) and [(250,)] in submitted
    # With its batch, and then alone; a batch whose result was lost with its worker runs again.
    assert len(noted(tmp_path, "killed")) == 2 and len(noted(tmp_path, "once")) >= 2
