"""Calls that are themselves tasks of a cluster, on whose only thread they would wait for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import slidefusion as sf

_LONGEST_S = 60  # until a task counts as one that waits for itself


@pytest.fixture(scope="module")
def one_thread() -> Iterator[Any]:
    """The active client, of a cluster that runs one task at a time."""
    from distributed import Client, LocalCluster

    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with LocalCluster(dashboard_address=":0", **settings) as cluster, Client(cluster) as client:
        yield client


def _fuse(stack: np.ndarray, out: Path, client: str) -> list[str]:
    """A task: where the regions of the slide were made."""
    from distributed import get_client, get_worker

    report = out.with_suffix(".json")
    more = {"client": get_client()} if client == "given" else {}
    sf.fuse(stack, chunks=128, out=out, report=report, progress=False, **more)
    assert threading.current_thread() in get_worker().executors["default"]._threads  # it is back
    return list(json.loads(report.read_text())["workers"])


@pytest.mark.parametrize("client", ["given", "not given"])
def test_fuse(one_thread: Any, small_stack: np.ndarray, tmp_path: Path, client: str) -> None:
    future = one_thread.submit(_fuse, small_stack, tmp_path / "slide.zarr", client)
    (where,) = future.result(timeout=_LONGEST_S)
    (worker,) = one_thread.scheduler_info()["workers"]
    assert where == (worker if client == "given" else "this process")
    assert np.array_equal(sf.open_slide(tmp_path / "slide.zarr"), sf.fuse(small_stack, chunks=128))


def _batch(manifest: Path, client: str) -> list[str]:
    from distributed import get_client

    found = sf.batch(manifest, client=get_client() if client == "given" else None, progress=False)
    return [f"{status.state} {status.error}".strip() for status in found]


@pytest.mark.parametrize("client", ["given", "not given"])
def test_batch(one_thread: Any, small_stack: np.ndarray, tmp_path: Path, client: str) -> None:
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", small_stack, metadata={"axes": "CZYX", **sizes})
    (tmp_path / "slides.csv").write_text("source\na.ome.tif\n")
    future = one_thread.submit(_batch, tmp_path / "slides.csv", client)
    assert future.result(timeout=_LONGEST_S) == ["done"]
