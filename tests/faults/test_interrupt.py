"""Work in a thread is stopped from another one, as Ctrl-C would in the main thread."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest

from slidefusion.errors import ProcessingError
from slidefusion.omezarr.journal import Journal
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.tasks.interrupt import check_stop, stopped_by
from slidefusion.tasks.scheduling import run_tasks

from .conftest import Files, assert_same, convert
from .workload import Pattern

LONGEST_S = 60


def in_thread(work: Callable[[], None]) -> None:
    """To its end, or until it counts as hanging; raises what it raised."""
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(work).result(LONGEST_S)
    finally:
        pool.shutdown(wait=False)


@contextlib.contextmanager
def a_client(kind: str) -> Iterator[Any]:
    """None, or a client of one worker with two threads of this process."""
    if kind == "threads":
        with dask.config.set(num_workers=2):
            yield None
        return
    from distributed import Client, LocalCluster

    settings = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with (
        LocalCluster(dashboard_address=":0", **settings) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class Gate:
    """Tasks that say when they began and wait to be let through; one process's own."""

    began = threading.Event()
    open = threading.Event()


def wait_at_gate(job: None, number: int) -> None:
    Gate.began.set()
    Gate.open.wait(LONGEST_S)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("kind", ["threads", "client"])
def test_what_waits_for_tasks_is_stopped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "began", threading.Event())
    monkeypatch.setattr(Gate, "open", threading.Event())
    stop, done = threading.Event(), []

    def stop_then_open() -> None:
        Gate.began.wait(LONGEST_S)
        stop.set()
        Gate.open.set()

    with a_client(kind) as client:

        def work() -> None:
            with stopped_by(stop):
                run_tasks(
                    wait_at_gate,
                    None,
                    [(number,) for number in range(10_000)],
                    client=client,
                    name="wait",
                    on_outcome=lambda key, outcome: done.append((key, outcome.verdict)),
                )

        stopper = threading.Thread(target=stop_then_open)
        stopper.start()
        with pytest.raises(KeyboardInterrupt):
            in_thread(work)
        stopper.join()
    assert len(done) < 10_000


def wait_for_the_stop(job: threading.Event, number: int) -> None:
    job.set()
    while True:
        check_stop()
        time.sleep(0.01)


def fail_or_wait(job: threading.Event, number: int) -> None:
    if number == 0:
        job.wait(LONGEST_S)
        raise OSError(errno.ENOSPC, "No space left on device")
    job.set()
    while True:
        check_stop()
        time.sleep(0.01)


def test_a_run_that_gives_up_says_why() -> None:
    """And not that what ran beside it was interrupted."""
    with a_client("threads"), pytest.raises(ProcessingError, match="No space left on device"):
        run_tasks(
            fail_or_wait,
            threading.Event(),
            [(number,) for number in range(10)],
            client=None,
            name="disk",
        )


def test_what_runs_on_threads_ends_where_it_looks() -> None:
    began, stop = threading.Event(), threading.Event()

    def stop_then() -> None:
        began.wait(LONGEST_S)
        stop.set()

    def work() -> None:
        with stopped_by(stop):
            run_tasks(
                wait_for_the_stop,
                began,
                [(0,), (1,), (2,)],
                client=None,
                name="wait",
            )

    stopper = threading.Thread(target=stop_then)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        in_thread(work)
    stopper.join()


def test_retries_are_not_waited_for() -> None:
    stop = threading.Event()

    def fail(job: None, number: int) -> None:
        raise OSError(5, "Input/output error")

    def work() -> None:
        with stopped_by(stop):
            run_tasks(
                fail, None, [(0,)], client=None, name="fail", retries=99,
                on_outcome=lambda key, outcome: stop.set(),
            )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        in_thread(work)


def test_an_output_stays_continuable(tmp_path: Path, whole_stack: Files) -> None:
    out, stop, notes = tmp_path / "stack.zarr", threading.Event(), tmp_path / "notes"

    class Stopping(Pattern):
        def read(self, z: int, window: Any) -> Any:
            if z == 0 and window.y == 512:
                stop.set()
            return super().read(z, window)

    def work() -> None:
        with stopped_by(stop):
            convert(out, Stopping(seconds=0.05))

    with dask.config.set(num_workers=2), pytest.raises(KeyboardInterrupt):
        in_thread(work)
    finished, total = Journal.stored_progress(str(out)) or (0, 0)
    assert 0 < finished < total == 32
    assert not (out / LOCK_NAME).exists()
    convert(out, Pattern(notes=str(notes)))
    assert_same(out, whole_stack)
    assert len(list(notes.iterdir())) < 16  # of plane 0, which was read first


def test_only_its_own_thread_is_stopped() -> None:
    stop = threading.Event()
    stop.set()
    with stopped_by(stop):
        in_thread(check_stop)  # another thread, and those that run a pool's tasks are such
        with stopped_by(threading.Event()):
            check_stop()
        with pytest.raises(KeyboardInterrupt):
            check_stop()
    check_stop()
