"""Files that are replaced are whole, old or new, and nothing else is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slidefusion.files import clear_partials, replace_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path, durable: bool) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with replace_file(target, durable=durable) as partial:
        assert (partial.parent, partial.suffix) == (tmp_path, ".partial")
        partial.write_text("ne")
        assert target.read_text() == "old"
        with partial.open("a") as file:
            file.write("w")
    assert (target.read_text(), names(tmp_path)) == ("new", ["a.json"])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path, error: BaseException, there: bool
) -> None:
    target = tmp_path / "a.json"
    if there:
        target.write_text("old")
    with pytest.raises(type(error)) as told, replace_file(target) as partial:
        partial.write_text("ne")
        raise error
    assert told.value is error
    assert names(tmp_path) == (["a.json"] if there else [])
    assert not there or target.read_text() == "old"


def test_what_cannot_take_its_place_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"), replace_file(tmp_path / "a") as partial:
        partial.write_text("new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_the_reason_is_that_of_the_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    wanted = FileNotFoundError if folder == "missing" else NotADirectoryError
    with pytest.raises(wanted), replace_file(tmp_path / folder / "a") as partial:
        partial.write_text("new")


def test_several_threads_replace_one_file(tmp_path: Path) -> None:
    target, together = tmp_path / "a.txt", threading.Barrier(4)
    seen: list[Path] = []

    def write(letter: str) -> None:
        for _ in range(20):
            together.wait()
            with replace_file(target) as partial:
                seen.append(partial)
                partial.write_text(letter * 10_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = target.read_text()
    assert text in {letter * 10_000 for letter in "abcd"}
    assert len(set(seen)) == 80 and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "plain").touch()
        with replace_file(tmp_path / "replaced") as partial:
            partial.touch()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "replaced")}
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize("name", ["a.csv", "a[1].csv", "x" * 250])
def test_what_killed_processes_left_is_cleared(tmp_path: Path, name: str) -> None:
    code = (
        "import os, sys, pathlib; from slidefusion.files import replace_file\n"
        "with replace_file(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('ne'); os._exit(9)"
    )
    target = tmp_path / name
    target.write_text("old")
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == 9
    others = [f".b{name[:200]}.01234567.partial", f".{name[:200]}.b.01234567.partial", "c.partial"]
    for other in others:
        (tmp_path / other).touch()
    assert len(names(tmp_path)) == 6
    clear_partials(target)
    assert names(tmp_path) == sorted([name, *others]) and target.read_text() == "old"
    clear_partials(tmp_path / "missing" / "a")


def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 125)
    with replace_file(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
