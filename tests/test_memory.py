"""What a run leaves in memory: measured of a process of its own, as the system counts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slidefusion.errors import MemoryBudgetError
from slidefusion.fuser import Footprint
from slidefusion.fusers.lpp import Lpp
from slidefusion.geometry import Size
from slidefusion.memory import _limit_files, budget_bytes, check, choose_region_px, shared_by
from slidefusion.phantom import Phantom
from slidefusion.tiling import Tiling
from slidefusion.verbs.phantom import write_phantom

FUSE_THRICE = r"""
import re, sys
import slidefusion as sf

def megabytes(name):
    return int(re.search(name + r":\s+(\d+) kB", open("/proc/self/status").read())[1]) / 1e3

source, out = sys.argv[1:]
for _ in range(3):
    sf.fuse(source, "lpp", out=out, chunks=2048, progress=False, overwrite=True)
    print(megabytes("VmRSS"), megabytes("VmHWM"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and glibc is the system's")
def test_a_run_gives_its_memory_back(tmp_path: Path) -> None:
    source = tmp_path / "stack.zarr"
    write_phantom(Phantom(2048, 2048, planes=2, seed=1), source, progress=False)
    command = [sys.executable, "-c", FUSE_THRICE, str(source), str(tmp_path / "out.zarr")]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    after, peak = np.array(ended.stdout.split(), float).reshape(3, 2).T
    assert peak[-1] - after[-1] > 60  # there was something to give back
    assert after[-1] - after[0] < 0.5 * (peak[-1] - after[-1])


def test_limits_of_the_groups_above_count_too(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/slurm/job\n5:cpu,cpuacct:/other\n")
    job = root / "slurm" / "job"
    found = list(_limit_files(root, own))
    assert found[:3] == [folder / "memory.max" for folder in (job, job.parent, root)]
    own.write_text("9:memory:/slurm/job\n")
    first = next(_limit_files(root, own))
    assert first == root / "memory" / "slurm" / "job" / "memory.limit_in_bytes"
    assert root / "memory.max" in _limit_files(root, tmp_path / "missing")


def test_regions_fit_into_the_process_that_fuses_them() -> None:
    size, fuser = Size(20_000, 20_000), Lpp()
    sides = [
        choose_region_px(fuser, size, 5, 3, 1, 2, total=total) for total in (2**33, 700 * 2**20)
    ]
    assert sides[0] == 2048 > sides[1] > 256
    tiling = Tiling(size, 2048, fuser.footprint)
    with pytest.raises(MemoryBudgetError, match=rf"pass chunks={sides[1]}, or give it fewer"):
        check(fuser, tiling, 5, 3, 1, 2, total=700 * 2**20)
    fits = Tiling(size, sides[1], fuser.footprint)
    assert check(fuser, fits, 5, 3, 1, 2, total=700 * 2**20) <= budget_bytes(700 * 2**20)
    smallest = Tiling(size, 256, fuser.footprint)
    with pytest.raises(MemoryBudgetError, match=r"that it has\): give it fewer threads"):
        check(fuser, smallest, 5, 3, 1, 2, total=2**20)


def test_runs_at_once_share_the_memory() -> None:
    """A process with a limit of its own, of a cluster, shares it with nobody."""
    cut = Tiling(Size(20_000, 20_000), 2048, Footprint())
    needed = check(Lpp(), cut, 5, 3, 1, 1)
    runs = budget_bytes() // needed + 1
    with shared_by(runs):
        with pytest.raises(MemoryBudgetError, match=rf"has, shared by {runs} slides at once\)"):
            check(Lpp(), cut, 5, 3, 1, 1)
        check(Lpp(), cut, 5, 3, 1, 1, total=2**33)
