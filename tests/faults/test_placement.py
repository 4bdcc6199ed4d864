"""GPU regions run on GPU workers only, and every worker is asked before it is used."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.errors import PluginError, ProcessingError
from slidefusion.omezarr.journal import Journal
from slidefusion.phantom import Phantom
from slidefusion.readers import open_reader
from slidefusion.tasks import preflight
from slidefusion.tasks.requirements import Requirement
from slidefusion.verbs.phantom import write_phantom

from .conftest import convert, files_of, fuse
from .workload import Brightest, Pattern, noted


@pytest.fixture(scope="module")
def mixed() -> Iterator[Any]:
    """A client of two workers, of which one declares a GPU."""
    from distributed import Client, Nanny, Scheduler, SpecCluster

    plain = {"cls": Nanny, "options": {"nthreads": 1, "silence_logs": logging.CRITICAL}}
    gpu = {**plain, "options": {**plain["options"], "resources": {"GPU": 1}}}
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with (
        SpecCluster(
            scheduler=scheduler,
            workers={"gpu": gpu, "cpu": plain},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2)
        yield client


def pid_of_gpu(client: Any) -> int:
    pids = client.run(os.getpid)
    workers = client.scheduler_info(n_workers=-1)["workers"]
    (address,) = [a for a, worker in workers.items() if worker["resources"].get("GPU")]
    return int(pids[address])


def test_every_gpu_region_runs_on_the_gpu_worker(mixed: Any, stack: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    fuse(stack, tmp_path / "gpu.zarr", Brightest(device="cuda", notes=str(notes)), client=mixed)
    assert set(noted(notes, "fused")) == {pid_of_gpu(mixed)}
    assert len(noted(notes, "fused")) == 16
    both = tmp_path / "both"
    fuse(stack, tmp_path / "cpu.zarr", Brightest(seconds=0.05, notes=str(both)), client=mixed)
    assert len(set(noted(both, "fused"))) == 2


def test_a_cluster_without_a_gpu_is_refused_at_once(
    two_workers: tuple[Any, Any], stack: Path, tmp_path: Path
) -> None:
    start = time.monotonic()
    for out in (tmp_path / "slide.zarr", None):
        with pytest.raises(ProcessingError, match=r"none of the cluster's 2 workers .* GPU"):
            sf.fuse(stack, Brightest(device="cuda:0"), out=out, client=two_workers[1])
    assert time.monotonic() - start < 5
    assert not (tmp_path / "slide.zarr").exists()


def test_a_lazy_image_is_computed_on_the_gpu_worker_or_not_at_all(
    mixed: Any, stack: Path, tmp_path: Path
) -> None:
    expected = Pattern().read(0, _whole()) | 0
    expected = np.maximum(expected, Pattern().read(1, _whole()))
    for given in (stack, sf.open_stack(stack).data + np.uint8(0)):  # a store, and a Dask graph
        notes = tmp_path / f"notes-{type(given).__name__}"
        image = sf.fuse(given, Brightest(device="cuda", notes=str(notes)), chunks=256, client=mixed)
        halved = (image // 2).data  # composed, so that the graph is optimised
        future = mixed.compute(halved, resources={"GPU": 1})
        assert np.array_equal(future.result(), expected // 2)
        assert set(noted(notes, "fused")) == {pid_of_gpu(mixed)}
        with pytest.raises(ProcessingError, match=r"declares no resource GPU.*compute\(resources="):
            mixed.compute(halved + 1, workers=["cpu"]).result()
    assert np.array_equal(image.compute(scheduler="threads"), expected)


def _whole() -> Any:
    from slidefusion.geometry import Window

    return Window(0, 0, 1024, 1024)


def test_another_version_on_a_worker_is_refused(
    two_workers: tuple[Any, Any], stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = two_workers[1]
    real = Requirement.here(["slidefusion", "numba"], [])
    changed = tuple((name, "0.0.7" if name == "numba" else v) for name, v in real.distributions)
    monkeypatch.setattr(
        Requirement, "here", classmethod(lambda *_: Requirement(real.python, changed))
    )
    version = dict(real.distributions)["numba"]
    wanted = rf"worker tcp://.* has numba {version}, and this process 0\.0\.7"
    with pytest.raises(PluginError, match=wanted):
        fuse(stack, tmp_path / "slide.zarr", client=client)
    with pytest.raises(PluginError, match=wanted):
        convert(tmp_path / "stack.zarr", Pattern(), client=client)
    with pytest.raises(PluginError, match=wanted):
        write_phantom(Phantom(64, 64, planes=2), tmp_path / "p.zarr", client=client)
    assert not list(tmp_path.glob("*.zarr"))

    # One that joins later is asked by the first task it gets.
    monkeypatch.setattr(preflight, "_ask", lambda *_: {})
    with pytest.raises(PluginError, match=r"this worker has numba .* install there"):
        fuse(stack, tmp_path / "late.zarr", client=client)
    assert Journal.stored_progress(str(tmp_path / "late.zarr")) == (0, 16)


def test_a_worker_without_the_fuser_is_refused(two_workers: tuple[Any, Any]) -> None:
    needs = Requirement.here(["slidefusion"], [])
    with pytest.raises(PluginError, match=r"worker tcp://.* cannot load .*no_such_plugin"):
        preflight.check_workers(two_workers[1], needs, _Absent())


class _Absent:
    def __reduce__(self) -> Any:
        return __import__, ("no_such_plugin",)


def test_a_worker_that_may_not_open_the_source_is_refused(two_workers: tuple[Any, Any]) -> None:
    here = Requirement.here([], [])
    with pytest.raises(ProcessingError, match=r"cannot open the input .*no\.tif.* credentials"):
        preflight.check_workers(two_workers[1], here, _NotForIt())


class _NotForIt:
    def __reduce__(self) -> Any:
        return open_reader, ("memory://placement/no.tif",)


def test_a_worker_that_does_not_see_the_files_is_refused(
    two_workers: tuple[Any, Any], stack: Path, tmp_path: Path
) -> None:
    client = two_workers[1]
    here = Requirement.here([], [stack])
    preflight.check_workers(client, here, None)
    preflight.check_workers_see(client, [stack / "zarr.json"])
    other = Requirement(here.python, (), ((str(stack), "another digest"),))
    with pytest.raises(ProcessingError, match=f"worker tcp.* sees something else at {stack}"):
        preflight.check_workers(client, other, None)
    gone = Requirement(here.python, (), ((str(tmp_path / "unmounted"), "a digest"),))
    with pytest.raises(ProcessingError, match=r"worker tcp.* cannot see .*unmounted: mount it"):
        preflight.check_workers(client, gone, None)
    with pytest.raises(ProcessingError, match=r"cannot write to .*shared file system"):
        preflight.check_workers_see(client, [tmp_path / "unmounted" / "lock"])


def test_two_runs_share_one_cluster(
    two_workers: tuple[Any, Any], stack: Path, tmp_path: Path
) -> None:
    """The same fuser and regions at the same time, into two outputs: no task is confused."""
    outs = [tmp_path / str(k) / "slide.zarr" for k in range(2)]
    threads = [
        threading.Thread(
            target=fuse,
            args=(stack, out, Brightest(seconds=0.02)),
            kwargs={"client": two_workers[1]},
        )
        for out in outs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files_of(outs[0]) == files_of(outs[1])
    assert len([name for name in files_of(outs[0]) if name.startswith("0/c/")]) == 16


def test_a_large_array_is_sent_once_and_again_when_its_workers_die(
    two_workers: tuple[Any, Any], tmp_path: Path
) -> None:
    cluster, client = two_workers
    array = np.random.default_rng(0).integers(0, 255, (1, 2, 1024, 1024), np.uint8)
    notes = tmp_path / "notes"

    def kill_all() -> None:
        while len(noted(notes, "fused")) < 3:
            time.sleep(0.01)
        for nanny in cluster.workers.values():
            os.kill(nanny.pid, signal.SIGKILL)

    killing = threading.Thread(target=kill_all)
    killing.start()
    fuser = Brightest(seconds=0.1, notes=str(notes))
    slide = fuse(array, tmp_path / "slide.zarr", fuser, client=client)
    killing.join()
    assert np.array_equal(slide.values, array.max(axis=1))
