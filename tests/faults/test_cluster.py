"""Faults on a cluster of real processes: workers, client and scheduler die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.errors import ProcessingError, SlidefusionWarning
from slidefusion.omezarr.journal import Journal
from slidefusion.tasks.pools import ClusterPool
from slidefusion.tasks.scheduling import run_tasks

from .conftest import Files, assert_same, convert, files_of, fuse, local_cluster
from .workload import Brightest, Pattern, noted

pytestmark = [
    # Processes that are killed cannot close their sockets.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


class Killer:
    """Sends SIGKILL to a random worker of a cluster, again and again, at random moments."""

    def __init__(self, cluster: Any, seed: int, longest_s: float, limit: int) -> None:
        self.cluster, self.random, self.longest_s = cluster, random.Random(seed), longest_s
        self.limit = limit
        self.kills = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while self.kills < self.limit and not self.stop.wait(
            self.random.uniform(0.02, self.longest_s)
        ):
            nannies = [n for n in self.cluster.workers.values() if n.pid is not None]
            if nannies:
                try:
                    os.kill(self.random.choice(nannies).pid, signal.SIGKILL)
                    self.kills += 1
                except (ProcessLookupError, TypeError):  # it died in between
                    pass

    def __enter__(self) -> Killer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def to_the_end(run: Callable[[], Any]) -> int:
    """Repeat a call until it succeeds, as a user would; how often it failed."""
    for failures in range(30):
        try:
            run()
            return failures
        except ProcessingError:
            continue
    raise AssertionError("it never ended")


def kill_during(
    workers: int, seed: int, out: Path, run: Callable[[Any, Path], Any], limit: int = 2
) -> int:
    with local_cluster(workers) as (cluster, client):
        client.wait_for_workers(workers)
        with Killer(cluster, seed, 0.8, limit) as killer:
            to_the_end(lambda: run(client, out))
    return killer.kills


def convert_slowly(client: Any, out: Path) -> None:
    convert(out, Pattern(seconds=0.1), client=client, retries=10)


SLOW = Brightest(seconds=0.2)


def test_workers_killed_while_converting(tmp_path: Path, whole_stack: Files) -> None:
    kills = kill_during(3, 1, tmp_path / "stack.zarr", convert_slowly)
    assert_same(tmp_path / "stack.zarr", whole_stack)
    assert kills >= 1


def test_workers_killed_while_fusing(
    stack: Path, tmp_path: Path, whole_slide: Callable[..., Files]
) -> None:
    kills = kill_during(
        2, 2, tmp_path / "slide.zarr", lambda c, out: fuse(stack, out, SLOW, client=c)
    )
    assert_same(tmp_path / "slide.zarr", whole_slide(SLOW))
    assert kills >= 1


def test_a_restart_while_an_array_in_memory_is_fused(tmp_path: Path) -> None:
    # Too large to travel with every task: what the workers hold of it is lost with all of them.
    array = np.random.default_rng(0).integers(0, 255, (1, 2, 512, 768), dtype=np.uint8)
    with local_cluster(2) as (_, client):
        client.wait_for_workers(2)
        timer = threading.Timer(0.6, client.restart)
        timer.start()
        slow = Brightest(seconds=0.4)
        slide = sf.fuse(
            array, slow, chunks=128, out=tmp_path / "o.zarr", client=client, progress=False
        )
        timer.join()
    assert np.array_equal(slide.values, array.max(axis=1))


def forget(key: Any, dask_scheduler: Any) -> None:
    """On the scheduler: let go of what clients hold by this key, without a word to them."""
    for client in list(dask_scheduler.clients):
        dask_scheduler.client_releases_keys([key], client)


def take(job: np.ndarray, k: int) -> float:
    return float(job[k])


def test_what_tasks_share_is_sent_again_when_the_scheduler_forgot_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a restart while it is sent: the client goes on believing that it is there."""
    scatter, sent = ClusterPool._scatter, []

    def scattered(self: ClusterPool) -> Any:
        sent.append(scatter(self))
        if len(sent) == 1:
            self._client.run_on_scheduler(forget, sent[0].key)
        return sent[-1]

    monkeypatch.setattr(ClusterPool, "_scatter", scattered)
    taken = {}
    with local_cluster(1) as (_, client):
        client.wait_for_workers(1)
        run_tasks(
            take,
            np.arange(20_000.0),  # too large to travel with every task
            [(k,) for k in range(6)],
            name="take",
            client=client,
            on_outcome=lambda key, outcome: taken.update({key[0]: outcome.value}),
        )
    assert taken == {k: float(k) for k in range(6)}
    assert len(sent) > 1


@pytest.mark.slow
def test_twenty_kills_at_random_moments(
    stack: Path, tmp_path: Path, whole_stack: Files, whole_slide: Callable[..., Files]
) -> None:
    kills, seed = 0, 100
    while kills < 24:
        seed += 1
        converted, fused = tmp_path / f"{seed}" / "stack.zarr", tmp_path / f"{seed}" / "slide.zarr"
        kills += kill_during(2 + seed % 3, seed, converted, convert_slowly, 6)
        assert_same(converted, whole_stack)
        kills += kill_during(
            2 + seed % 2, seed, fused, lambda c, out: fuse(stack, out, SLOW, client=c), 6
        )
        assert_same(fused, whole_slide(SLOW))
        print(f"round {seed}: {kills} kills so far")


def wait_for_progress(out: Path, process: subprocess.Popen[Any], least: int) -> None:
    """Until the process has noted that many regions at ``out``."""
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline and process.poll() is None
        progress = None
        if out.is_dir():
            progress = Journal.stored_progress(str(out))
        if progress is not None and progress[0] >= least:
            return
        time.sleep(0.02)


CLIENT = """
import sys
from tests.faults.conftest import fuse
from tests.faults.workload import Brightest
from slidefusion.omezarr import journal
journal._FLUSH_SECONDS = 0.1
address, stack, out = sys.argv[1:]
client = None
if address != "threads":
    from distributed import Client
    client = Client(address)
fuse(stack, out, Brightest(seconds=0.2), client=client)
"""


def run_client(address: str, stack: Path, out: Path) -> subprocess.Popen[Any]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, address, str(stack), str(out)],
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_the_client_killed(
    where: str,
    stack: Path,
    tmp_path: Path,
    two_workers: tuple[Any, Any],
    whole_slide: Callable[..., Files],
) -> None:
    client = two_workers[1] if where == "cluster" else None
    out = tmp_path / "slide.zarr"
    process = run_client(client.scheduler.address if client else where, stack, out)
    wait_for_progress(out, process, 3)
    process.kill()
    process.communicate()
    before = Journal.stored_progress(str(out))
    assert before is not None and 3 <= before[0] < 16
    fuse(stack, out, SLOW, client=client)
    assert_same(out, whole_slide(SLOW))


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[Any], str]]:
    """A scheduler and a worker started as on any machine; the scheduler's process and address."""
    file = tmp_path / "scheduler.json"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": environment,
        "cwd": tmp_path,
    }
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--port", "0", "--host", "127.0.0.1", *common], **quiet
    )
    worker = subprocess.Popen(
        [*dask, "worker", *common, "--nthreads", "1", "--no-nanny", "--death-timeout", "20"],
        **quiet,
    )
    try:
        yield scheduler, str(file)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def test_the_scheduler_killed(
    own_cluster: tuple[subprocess.Popen[Any], str],
    stack: Path,
    tmp_path: Path,
    whole_slide: Callable[..., Files],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from distributed import Client

    from slidefusion.tasks import pools

    monkeypatch.setattr(pools, "_RECONNECT_SECONDS", 2.0)
    scheduler, file = own_cluster
    out = tmp_path / "slide.zarr"
    client = Client(scheduler_file=file, set_as_default=False, timeout="30s")
    try:
        client.wait_for_workers(1, timeout=60)
        killing = threading.Thread(
            target=lambda: (wait_for_progress(out, scheduler, 1), scheduler.kill())
        )
        killing.start()
        with pytest.raises(ProcessingError, match=r"scheduler at tcp://.* does not answer"):
            fuse(stack, out, SLOW, client=client)
        killing.join()
    finally:
        client.close(timeout=1)
    progress = Journal.stored_progress(str(out))
    assert progress is not None and 1 <= progress[0] < 16
    fuse(stack, out, SLOW)
    assert_same(out, whole_slide(SLOW))


def test_a_region_that_kills_every_worker(tmp_path: Path, whole_stack: Files) -> None:
    """As the system does when a worker's memory runs out."""
    import dask

    notes, out = tmp_path / "notes", tmp_path / "stack.zarr"
    source = Pattern(failing=((256, 512),), times=99, kind="kill", notes=str(notes))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(2) as (_, client),
    ):
        with pytest.raises(ProcessingError) as caught:
            convert(out, source, client=client, retries=1)
        text = str(caught.value)
        assert "convert, region y 256-512, x 512-768 of plane 0" in text
        assert "out of memory: give each worker fewer threads" in text
        assert len(noted(notes, "fail-256-512")) == 1
        convert(out, Pattern(), client=client)
    assert_same(out, whole_stack)


def test_workers_that_are_paused_for_good(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask pauses a worker whose memory is nearly full: what fills it may be the process itself."""

    def fill(dask_worker: Any) -> None:
        dask_worker.memory_manager.memory_pause_fraction = 0.01

    for name, seconds in (("_REFRESH", 0.1), ("_LONELY", 1.0), ("_ABANDONED", 3.0)):
        monkeypatch.setattr(f"slidefusion.tasks.pools.{name}_SECONDS", seconds)
    with local_cluster(1, memory_limit="3GB") as (_, client):
        assert client.submit(abs, -1).result() == 1  # it has worked before
        client.run(fill)
        with (
            pytest.warns(SlidefusionWarning, match="are paused by Dask, since their memory is"),
            pytest.raises(ProcessingError, match="only paused workers, whose memory is nearly"),
        ):
            fuse(stack, tmp_path / "slide.zarr", SLOW, client=client)


@pytest.mark.slow
def test_a_worker_out_of_memory(stack: Path, tmp_path: Path) -> None:
    import dask

    greedy = Brightest(seconds=1, greedy=2 * 10**9)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        local_cluster(1, memory_limit="700MB") as (_, client),
        pytest.raises(ProcessingError, match="out of memory"),
    ):
        fuse(stack, tmp_path / "slide.zarr", greedy, client=client, retries=1)


def test_ctrl_c(tmp_path: Path, stack: Path) -> None:
    """A real command: what is finished is noted, the code is 130, the next call goes on."""
    code = (
        "import sys; from slidefusion.cli import main; from slidefusion.verbs import convert; "
        "import tests.faults.slow_reader; raise SystemExit(main(sys.argv[1:]))"
    )
    out = tmp_path / "stack.zarr"
    arguments = ["convert", str(stack), str(out), "--shard-px", "128", "--chunk-px", "64"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_progress(out, process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        130,
        "interrupted; run the same command again to continue\n",
    )
    progress = Journal.stored_progress(str(out))
    assert progress is not None and 3 <= progress[0] < progress[1]
    assert not (out / "slidefusion-lock.json").exists()

    from slidefusion.cli import main

    assert main(arguments) == 0
    undisturbed = tmp_path / "undisturbed" / "stack.zarr"
    assert main([*arguments[:2], str(undisturbed), *arguments[3:]]) == 0
    assert_same(out, files_of(undisturbed))
