"""Kernels are compiled once for all processes, and again when what they are made of changes."""

import os
import subprocess
import sys

import pytest

INNER = """
from slidefusion.jit import kernel

FACTOR = {factor}

@kernel
def inner(x):
    return x + {number}
"""
OUTER = """
from inner import FACTOR
from inner import inner as add
from slidefusion.jit import kernel

@kernel
def middle(x):
    return add(x)

@kernel
def outer(x):
    return FACTOR * middle(x)

print(outer(10), len(outer.stats.cache_hits))
"""


@pytest.fixture
def run(tmp_path):
    """``outer(10)`` in a process of its own: the answer, and how often its code was on disk."""

    def answer():
        command = [sys.executable, "-W", "error", "-B", "outer.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    (tmp_path / "outer.py").write_text(OUTER)
    return answer


def test_a_change_in_another_file_is_compiled(tmp_path, run):
    for time, (number, factor, expected) in enumerate([(1, 2, "22"), (5, 2, "30"), (5, 3, "45")]):
        inner = tmp_path / "inner.py"
        inner.write_text(INNER.format(number=number, factor=factor))
        os.utime(inner, (time, time))  # texts of one length within one tick of the clock
        assert run() == [expected, "0"]


def test_what_is_unchanged_is_compiled_once(tmp_path, run):
    (tmp_path / "inner.py").write_text(INNER.format(number=1, factor=2))
    assert run() == ["22", "0"]
    assert run() == ["22", "1"]


@pytest.mark.parametrize("damage", ["no index", "half of the code"])
def test_what_was_not_written_to_its_end_is_compiled_again(tmp_path, run, damage):
    (tmp_path / "inner.py").write_text(INNER.format(number=1, factor=2))
    assert run() == ["22", "0"]
    (file,) = (tmp_path / "__pycache__").glob(
        "outer.outer*.nbi" if damage == "no index" else "outer.outer*.nbc"
    )
    file.write_bytes(b"" if damage == "no index" else file.read_bytes()[:100])
    assert run() == ["22", "0"]
    assert run() == ["22", "1"]  # and kept


def test_a_full_disk_is_no_obstacle(tmp_path, run):
    (tmp_path / "inner.py").write_text(INNER.format(number=1, factor=2))
    full = """
import numba.core.caching as caching

def save(self, key, data):
    raise OSError(28, "No space left on device")

caching.IndexDataCacheFile.save = save
"""
    (tmp_path / "outer.py").write_text(full + OUTER)
    assert run() == ["22", "0"]
    assert run() == ["22", "0"]
