"""``write_phantom``: three outputs of one run, verified, reported and repaired like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slidefusion.errors import OptionError, OutputError, ProcessingError
from slidefusion.omezarr.journal import Journal
from slidefusion.phantom import Phantom
from slidefusion.verbs.phantom import write_phantom
from slidefusion.verbs.truths import beside

from ..faults.conftest import assert_same, files_of
from ..faults.test_damage import cut, flip, remove

PHANTOM = Phantom(520, 300, planes=2)
"""Two regions, one below the other."""
PARTS = ("stack", "truth", "depth")


def write(folder: Path, **more: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = write_phantom(PHANTOM, folder / "p.zarr", progress=False, **more)
    return [Path(path) for path in paths]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def mine(whole: list[Path], tmp_path: Path) -> list[Path]:
    """A copy to damage."""
    return [Path(shutil.copytree(path, tmp_path / path.name)) for path in whole]


def assert_whole(folder: Path, whole: list[Path]) -> None:
    assert sorted(path.name for path in folder.glob("*.zarr")) == sorted(p.name for p in whole)
    for path in whole:
        assert_same(folder / path.name, files_of(path))


def test_report(whole: list[Path], tmp_path: Path) -> None:
    out = write(tmp_path / "made", verify=True, report=tmp_path / "report.json")
    assert_whole(tmp_path / "made", whole)
    said = json.loads((tmp_path / "report.json").read_text())
    assert (said["run"], said["output"], said["state"]) == ("phantom", str(out[0]), "complete")
    assert said["regions"] == {
        "total": 2, "finished_before": 0, "finished": 2, "failed": 0, "retries": 0
    }  # fmt: skip
    pixels = 520 * 300
    assert said["bytes"]["written"] == pixels * (2 * 3 + 3 + 4)  # planes and truth RGB, float depth
    assert said["bytes"]["stored"] > 0
    assert said["megapixel_planes"] == pytest.approx(2 * pixels / 1e6)
    assert said["verified"]
    assert said["task_seconds"]["write"] > 0
    with pytest.raises(OptionError, match="there is no folder"):
        write(tmp_path / "other", report=tmp_path / "missing" / "r.json")


@pytest.mark.parametrize(
    ("part", "damage"), [("stack", flip), ("truth", cut), ("depth", cut), ("depth", remove)]
)
def test_verify_repairs(
    whole: list[Path], mine: list[Path], part: str, damage: Callable[[Path], None]
) -> None:
    shard = "0/c/0/1/0/0" if part == "stack" else "0/c/0/0/0"
    damage(mine[PARTS.index(part)] / shard)
    write(mine[0].parent, verify=True)
    assert_whole(mine[0].parent, whole)


def test_verify_renders_nothing_of_what_is_whole(
    mine: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Phantom, "render", None)
    write(mine[0].parent, verify=True)
    with pytest.raises(OutputError, match="already complete"):
        write(mine[0].parent)
    with pytest.raises(OutputError, match="other settings"):
        write_phantom(Phantom(520, 300, planes=2, seed=1), mine[0], progress=False, verify=True)


def test_verify_with_an_output_gone_and_another_damaged(
    whole: list[Path], mine: list[Path]
) -> None:
    shutil.rmtree(mine[1])
    cut(mine[2] / "0/c/0/0/0")
    write(mine[0].parent, verify=True)
    assert_whole(mine[0].parent, whole)


@pytest.mark.parametrize("damage", [cut, remove])
def test_damage_of_an_interrupted_run_is_made_anew(
    whole: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    render = Phantom.render

    def fail_below(self: Phantom, window: Any) -> Any:
        if window.y:
            raise ZeroDivisionError("here")
        return render(self, window)

    monkeypatch.setattr(Phantom, "render", fail_below)
    wanted = r"phantom, region y 512-520, x 0-300 of planes 0-1: .*here"
    with pytest.raises(ProcessingError, match=wanted):
        write(tmp_path, retries=0)
    assert [Journal.stored_progress(str(path)) for path in _places(tmp_path)] == [(1, 2)] * 3
    monkeypatch.undo()
    damage(_places(tmp_path)[1] / "0/c/0/0/0")
    assert [path.exists() for path in write(tmp_path)] == [True] * 3
    assert_whole(tmp_path, whole)


def _places(folder: Path) -> list[Path]:
    out = folder / "p.zarr"
    return [out, *(Path(beside(out, part)) for part in PARTS[1:])]
