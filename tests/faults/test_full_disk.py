"""A disk that fills up: one error that says so, the output goes on once there is room."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slidefusion.errors import ProcessingError, SlidefusionError
from slidefusion.omezarr.journal import Journal

from .conftest import Files, assert_same, convert, files_of
from .workload import Pattern

NOISE = Pattern(2048, 2048, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own in memory; call it with a size to mount or resize it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    where = tmp_path / "disk"
    where.mkdir()

    def mount(size: str) -> Path:
        options = f"size={size}" if not os.path.ismount(where) else f"remount,size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "slidefusion-test", str(where)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return where

    yield mount
    if os.path.ismount(where):
        subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(convert(tmp_path_factory.mktemp("whole") / "stack.zarr", NOISE))


def test_a_full_disk_ends_the_run_and_room_continues_it(
    small_disk: Callable[[str], Path], whole: Files
) -> None:
    needed = sum(len(data) for data in whole.values())
    out = small_disk(f"{needed // 2048 + 64}k") / "stack.zarr"
    with pytest.raises(ProcessingError) as caught:
        convert(out, NOISE, client=None)
    text = str(caught.value)
    assert "No space left on device" in text and "stopped early" in text
    assert "incomplete: make room" in text
    assert '"complete": false' in (out / "zarr.json").read_text()
    noted = Journal.stored_progress(str(out))
    assert noted is not None and noted[0] < noted[1]
    for name, data in files_of(out).items():  # what is there is whole
        if "/c/" in name and not name.startswith("slidefusion"):
            assert data == whole[name]

    small_disk("64m")
    convert(out, NOISE)
    assert_same(out, whole)


def test_no_room_for_anything(small_disk: Callable[[str], Path], whole: Files) -> None:
    folder = small_disk("64k")
    (folder / "filler").write_bytes(bytes(40000))
    with pytest.raises(SlidefusionError, match="No space left"):
        convert(folder / "stack.zarr", NOISE)
    (folder / "filler").unlink()
    small_disk("64m")
    convert(folder / "stack.zarr", NOISE)
    assert_same(folder / "stack.zarr", whole)


LIMITED = """
import resource, signal, sys
from tests.faults.conftest import convert
from tests.faults.workload import Pattern
from slidefusion.errors import ProcessingError
from pathlib import Path
convert(Path(sys.argv[2]), Pattern(64, 64, 1))  # imports and compiles before the limit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    convert(Path(sys.argv[1]), Pattern())
except ProcessingError as error:
    print(error)
"""


def test_a_file_that_may_not_grow(tmp_path: Path, whole_stack: Files) -> None:
    """Where nothing can be mounted: a limit of the size of files, met in the middle of a shard."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    out = tmp_path / "stack.zarr"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(out), str(tmp_path / "warm.zarr")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "File too large" in done.stdout, done.stderr
    left = [name for name in files_of(out) if "/c/" in name]
    assert all(files_of(out)[name] == whole_stack[name] for name in left)
    convert(out, Pattern())
    assert_same(out, whole_stack)
