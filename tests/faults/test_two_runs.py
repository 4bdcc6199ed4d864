"""Two runs at one output: the second is refused; a dead one is taken over; clocks do not matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from slidefusion.errors import OutputError
from slidefusion.omezarr import lock as locks
from slidefusion.omezarr.lock import LOCK_NAME, Lock

from .conftest import Files, assert_same, convert
from .workload import Pattern

HOLD = (
    "import sys, time; from slidefusion.omezarr.lock import Lock; lock = Lock(sys.argv[1]); "
    "print('held', flush=True); time.sleep(100)"
)


def foreign(folder: Path, **more: Any) -> dict[str, Any]:
    """A lock as a process on another machine would have left it."""
    record = {
        "host": "elsewhere",
        "machine": "elsewhere 1234",
        "pid": os.getpid(),
        "started": "1",
        "since": "2999-01-01T00:00:00+00:00",  # its clock is wrong, which must not matter
        "beat_seconds": 0.05,
        "token": "theirs",
        "beat": 7,
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK_NAME).write_bytes(json.dumps(record).encode().ljust(512))
    return record


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "_SETTLE_SECONDS", 0.05)


def test_the_second_of_two_processes_is_refused_until_the_first_is_killed(
    tmp_path: Path, whole_stack: Files
) -> None:
    out = tmp_path / "stack.zarr"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError) as caught:
            convert(out, Pattern())
        assert f"process {holder.pid}, since 20" in str(caught.value)
        assert "another run is writing" in str(caught.value)
        with pytest.raises(OutputError, match="another run is writing"):
            convert(out, Pattern(), overwrite=True)
    finally:
        holder.kill()
        holder.communicate()
    convert(out, Pattern())
    assert_same(out, whole_stack)


def test_two_threads_at_one_output(tmp_path: Path, whole_stack: Files) -> None:
    out = tmp_path / "stack.zarr"
    first = threading.Thread(target=convert, args=(out, Pattern(seconds=0.05)))
    first.start()
    while not (out / LOCK_NAME).exists():
        time.sleep(0.01)
    with pytest.raises(OutputError, match="another run is writing"):
        convert(out, Pattern())
    first.join()
    assert_same(out, whole_stack)


def test_a_reused_process_number_is_no_life(tmp_path: Path) -> None:
    mine = Lock(str(tmp_path))
    record = json.loads((tmp_path / LOCK_NAME).read_bytes())
    mine.release()
    foreign(tmp_path, machine=record["machine"], started="12345")
    Lock(str(tmp_path)).release()
    parent = os.getppid()
    foreign(tmp_path, machine=record["machine"], pid=parent, started=locks._started(parent))
    with pytest.raises(OutputError, match=f"process {parent}"):
        Lock(str(tmp_path))


def test_what_a_run_of_this_process_could_not_take_away_is_no_life(tmp_path: Path) -> None:
    mine = Lock(str(tmp_path))
    left = (tmp_path / LOCK_NAME).read_bytes()
    with pytest.raises(OutputError, match=f"process {os.getpid()}"):
        Lock(str(tmp_path))
    mine.release()
    (tmp_path / LOCK_NAME).write_bytes(left)
    Lock(str(tmp_path)).release()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_lock_that_is_given_back_is_not_taken_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the record and its removal another thread may ask for it."""
    mine, asked = Lock(str(tmp_path)), []
    remove = locks._LocalFile.remove

    def late(file: Any) -> None:
        with pytest.raises(OutputError, match="another run is writing") as told:
            Lock(str(tmp_path))
        asked.append(told)
        remove(file)

    monkeypatch.setattr(locks._LocalFile, "remove", late)
    mine.release()
    monkeypatch.undo()
    assert asked and not (tmp_path / LOCK_NAME).exists()
    Lock(str(tmp_path)).release()


@pytest.mark.usefixtures("quick_beats")
def test_another_machine_that_is_silent_is_dead(tmp_path: Path) -> None:
    foreign(tmp_path)
    taken = Lock(str(tmp_path))
    assert json.loads((tmp_path / LOCK_NAME).read_bytes())["token"] != "theirs"
    taken.release()
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.usefixtures("quick_beats")
@pytest.mark.parametrize("since", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_another_machine_that_counts_on_lives(tmp_path: Path, since: str) -> None:
    foreign(tmp_path, since=since)
    stop = threading.Event()

    def count() -> None:
        beat = 0
        while not stop.wait(0.05):
            beat += 1
            foreign(tmp_path, since=since, beat=beat)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        with pytest.raises(OutputError, match=f"on elsewhere, process .*since {since[:4]}"):
            Lock(str(tmp_path))
    finally:
        stop.set()
        counting.join()


@pytest.mark.usefixtures("quick_beats")
def test_who_was_thought_dead_stops(tmp_path: Path) -> None:
    mine = Lock(str(tmp_path))
    mine.check()
    foreign(tmp_path)  # as if another run had taken it while this one was suspended
    deadline = time.monotonic() + 20
    with pytest.raises(OutputError, match="another run took over"):
        while time.monotonic() < deadline:
            mine.check()
            time.sleep(0.02)
    mine.release()
    assert json.loads((tmp_path / LOCK_NAME).read_bytes())["token"] == "theirs"  # not ours to take


@pytest.mark.usefixtures("quick_beats")
def test_a_record_that_was_never_finished_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b"")
    Lock(str(tmp_path)).release()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_forgotten_lock_is_given_back(tmp_path: Path) -> None:
    lock = Lock(str(tmp_path))
    del lock
    again = Lock(str(tmp_path))
    assert (tmp_path / LOCK_NAME).exists()
    again.release()
