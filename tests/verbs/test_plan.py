"""What a call of fuse will need, said before it is made."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import slidefusion as sf
from slidefusion import sampling
from slidefusion.errors import MemoryBudgetError, OptionError, OutputError, ProcessingError
from slidefusion.plan import FusePlan, make_plan
from slidefusion.tasks.costs import Cost
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.placement import worker_bytes
from slidefusion.verbs.plan_fuse import FuseEstimate

from ..conftest import BlockSum


@pytest.fixture
def stack(small_stack: np.ndarray) -> np.ndarray:
    """(3, 5, 301, 419): the right half is glass."""
    small_stack[..., 200:] = 240
    return small_stack


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_bytes_are_those_of_the_run(stack: np.ndarray, tmp_path: Path, temporary: Path) -> None:
    # BlockSum reads every plane of every region, once.
    options = {"planes": [-1, 0, 1], "crop": (10, 20, 280, 390), "chunks": 64}
    found = sf.plan_fuse(stack, BlockSum(), out=tmp_path / "o.zarr", **options)
    assert not (tmp_path / "o.zarr").exists() and not list(temporary.iterdir())
    sf.fuse(
        stack, BlockSum(), out=tmp_path / "o.zarr", report=tmp_path / "r.json",
        progress=False, **options,
    )  # fmt: skip
    report = json.loads((tmp_path / "r.json").read_text())
    assert found.regions == report["regions"]["total"] == 5 * 7
    assert (found.read_bytes, found.write_bytes) == (
        report["bytes"]["read"],
        report["bytes"]["written"],
    )
    assert found.read_bytes - found.halo_bytes == 3 * 3 * 280 * 390
    assert found.megapixel_planes == pytest.approx(report["megapixel_planes"], abs=1e-3)
    shards = [path for path in (tmp_path / "o.zarr").rglob("c/**/*") if path.is_file()]
    size = sum(path.stat().st_size for path in shards)
    assert found.stored_bytes == pytest.approx(size, rel=0.3)
    assert len(found.timing.sample) == 6 and found.free_bytes is not None
    assert found.task_seconds > 0


def test_a_slide_of_few_regions_is_not_fused_as_a_whole(stack: np.ndarray) -> None:
    found = sf.plan_fuse(stack, BlockSum(), chunks=210, workers=1)
    assert (found.regions, len(found.timing.sample)) == (4, 2)
    assert max(region.content for region in found.timing.sample) > 0.3


def plan_of(stack: np.ndarray) -> FusePlan:
    return make_plan(stack, BlockSum(), None, None, 64, None, "auto", None, {})


def test_content_is_where_it_is(stack: np.ndarray) -> None:
    contents = sampling.region_contents(plan_of(stack))
    assert contents.shape == (5, 7)
    assert contents[:, :3].min() > 0.3
    assert contents[:, 4:].max() == 0


def test_time_by_content(stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions that cost by their content add up to what all of them cost."""
    plan = plan_of(stack)
    contents, pixels = sampling.region_contents(plan), sampling.window_pixels(plan.tiling)
    costs = pixels * (1e-6 + 5e-6 * contents)

    def run(plan: FusePlan, job: object, keys: list[tuple[int, int]]) -> list[Outcome]:
        return [
            Outcome("done", value=(Cost(fuse_s=costs[key], written_bytes=9), 100)) for key in keys
        ]

    monkeypatch.setattr(sampling, "_run", run)
    timing = sampling.take_sample(plan, 6, 1)
    assert timing.fuse_s == pytest.approx(costs.sum())
    assert (timing.read_s, timing.write_s) == (0, 0)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40).flatmap(
        lambda values: st.tuples(st.just(values), st.integers(1, len(values)))
    )
)
def test_choice(case: tuple[list[float], int]) -> None:
    contents, count = np.array(case[0]), case[1]
    chosen = sampling.spread_choice(contents, np.ones(len(contents)), count)
    assert len(set(chosen)) == len(chosen) == count
    assert contents[chosen].max() == contents.max()
    assert count == 1 or contents[chosen].min() == contents.min()


def test_choice_leaves_slivers_out() -> None:
    pixels = np.array([100.0, 100, 3, 100])
    assert 2 not in sampling.spread_choice(np.array([0, 0.5, 1, 0.7]), pixels, 3)
    assert len(sampling.spread_choice(np.zeros(4), pixels, 4)) == 4


def test_workers(stack: np.ndarray) -> None:
    found = sf.plan_fuse(stack, BlockSum(), chunks=64, workers=4, sample=1)
    assert (found.workers, found.threads) == (4, 1)
    assert found.seconds_with(1) == pytest.approx(found.task_seconds)
    assert found.seconds_with(4) == pytest.approx(found.task_seconds * 9 / 35)
    assert found.worker_seconds == pytest.approx(4 * found.wall_seconds)
    assert found.seconds_with(35) == found.seconds_with(1000)


def test_a_cluster(stack: np.ndarray) -> None:
    from distributed import Client, LocalCluster

    settings = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with (
        LocalCluster(dashboard_address=":0", memory_limit="3 GB", **settings) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        found = sf.plan_fuse(stack, BlockSum(), chunks=64, client=client)
        assert worker_bytes(client, BlockSum()) == 3_000_000_000
    assert worker_bytes(None, BlockSum()) is None
    assert (found.workers, found.threads) == (1, 2)
    assert found.memory_allowed_bytes == pytest.approx(2.4e9)


def test_memory_that_does_not_fit(stack: np.ndarray) -> None:
    limit = "460 MB"
    with pytest.raises(
        MemoryBudgetError, match=r"needs 0\.38 GB with 2 regions of 300 px.* 0\.37 GB.*chunks=256, "
    ):
        sf.plan_fuse(stack, BlockSum(), chunks=300, workers=1, threads=2, memory_limit=limit)
    found = sf.plan_fuse(stack, BlockSum(), chunks=256, memory_limit=limit, threads=2, sample=1)
    assert found.memory_needed_bytes <= found.memory_allowed_bytes == int(0.8 * 460e6)
    numpy = sf.plan_fuse(stack, BlockSum(), memory_limit=np.int64(460e6), threads=2, sample=1)
    assert numpy.memory_allowed_bytes == found.memory_allowed_bytes


def test_a_disk_that_is_too_small(
    stack: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 10_000, 10_000))
    out = tmp_path / "deep" / "o.zarr"
    with pytest.raises(OutputError, match=r"needs about 0\.\d MB at .*, and 0\.0 MB are free"):
        sf.plan_fuse(stack, BlockSum(), chunks=128, out=out)
    assert not out.parent.exists()


def test_an_output_that_would_damage_the_stack(tmp_path: Path, stack: np.ndarray) -> None:
    array = zarr.create_array(tmp_path / "stack.zarr", data=stack)
    for out in (tmp_path, tmp_path / "stack.zarr", tmp_path / "stack.zarr" / "o.zarr"):
        with pytest.raises(OutputError, match="choose an output elsewhere"):
            sf.plan_fuse(array, BlockSum(), out=out)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"threads": -1},
        {"threads": "x"},
        {"sample": 1.5},
        {"sample": 0},
        {"memory_limit": "much"},
        {"memory_limit": "1e400"},
        {"memory_limit": [1]},
        {"memory_limit": True},
        {"chunks": 0},
    ],
    ids=str,
)
def test_options_that_make_no_sense(stack: np.ndarray, options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        sf.plan_fuse(stack, BlockSum(), **options)


def test_a_region_that_cannot_be_read(stack: np.ndarray, temporary: Path) -> None:
    class Broken:
        shape, dtype = stack.shape, stack.dtype

        def read(self, z: int, window: object) -> np.ndarray:
            raise ProcessingError("the disk is scratched")

    with pytest.raises(ProcessingError, match="scratched"):
        sf.plan_fuse(Broken(), BlockSum(), chunks=128)
    assert not list(temporary.iterdir())


def test_the_estimate_is_json_able(stack: np.ndarray) -> None:
    import dataclasses

    found = sf.plan_fuse(stack, BlockSum(), chunks=128, sample=1)
    assert isinstance(found, FuseEstimate)
    assert json.loads(json.dumps(dataclasses.asdict(found)))["regions"] == 12


@pytest.mark.parametrize("fuser", ["lpp", "focusgan"])
def test_no_more_memory_is_seen_than_was_said(fuser: str) -> None:
    """In a process of its own; its ``ru_maxrss`` begins with the peak of this one."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc/self/status tells the peak of a process")
    if fuser != "lpp":
        pytest.importorskip("torch")
    code = (
        "import re, sys, numpy as np, slidefusion as sf\n"
        "stack = np.random.default_rng(0).integers(0, 255, (3, 1, 512, 512), np.uint8)\n"
        "found = sf.plan_fuse(stack, sys.argv[1], planes=[0], threads=1, workers=1, sample=1)\n"
        "status = open('/proc/self/status').read()\n"
        "peak = 1024 * int(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1])\n"
        "print(peak, found.memory_needed_bytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, fuser], capture_output=True, text=True, check=True
    )
    peak, needed = map(int, done.stdout.split())
    assert 0.4 * needed < peak <= needed
