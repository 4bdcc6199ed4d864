"""What is refused, before anything is measured; and a run that fails leaves nothing."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import slidefusion as sf
from slidefusion.errors import (
    OptionError,
    OutputError,
    ProcessingError,
    StackError,
    UnknownNameError,
    UsageError,
)
from slidefusion.phantom import Phantom
from slidefusion.training.recipe import compact
from slidefusion.verbs.phantom import write_phantom

from .conftest import Case, Lighter, Weightless, run


def test_missing_weights_end_it_before_any_work(cases: list[Case], tmp_path: Path) -> None:
    with pytest.raises(ProcessingError, match=r"'weightless' failed .*weights are missing"):
        run(cases, tmp_path / "r", fusers=[Lighter(), Weightless()])
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_nothing(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> float:
        raise RuntimeError("broken midway")

    monkeypatch.setattr("slidefusion.metrics.cc", broken)
    with pytest.raises(RuntimeError, match="broken midway"):
        run(cases, tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_folders_are_replaced_only_when_asked_and_ours(cases: list[Case], tmp_path: Path) -> None:
    given: dict[str, Any] = {"planes": [(0,)], "fusers": [Lighter()]}
    run(cases[:1], tmp_path / "r", **given)
    with pytest.raises(OutputError, match="--overwrite"):
        run(cases[:1], tmp_path / "r", **given)
    run(cases[:1], tmp_path / "r", overwrite=True, **given)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not made by an evaluation"):
        run(cases[:1], tmp_path / "mine", overwrite=True, **given)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("what", ["stack", "truth", "reference", "keep"])
def test_nothing_that_is_used_may_lie_in_the_folder_that_is_replaced(
    cases: list[Case], tmp_path: Path, what: str
) -> None:
    out = tmp_path / "results"
    run(cases[:1], out, planes=[(0,)], fusers=["lpp"])
    (out / "mine").mkdir()
    stack = out / "mine" / "s.zarr"
    write_phantom(Phantom(64, 64, planes=3, seed=1), stack, progress=False)
    picture = out / "mine" / "truth.png"
    Image.fromarray(cases[0].truth.transpose(1, 2, 0)).save(picture)
    given: dict[str, Any] = {"planes": [(0,)], "fusers": ["lpp"], "overwrite": True, "patch_px": 64}
    if what == "stack":
        stacks: list[Any] = [stack]
    else:
        stacks = [] if what == "keep" else [cases[0].stack]
        more = {"truth": {"truths": [picture]}, "reference": {"reference": str(picture)}}
        given |= more.get(what, {"phantoms": 1, "keep": out / "mine" / "held"})
    with pytest.raises(OutputError, match=r"contains the input .*choose an output elsewhere"):
        sf.evaluate(stacks, out=out, **given)
    assert picture.is_file() and stack.is_dir()


def test_a_link_is_refused_before_anything_is_measured(cases: list[Case], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OutputError, match="is a link"):
        run(cases[:1], tmp_path / "link", planes=[(0,)], fusers=[Weightless()])


def test_the_working_folder_may_be_the_output(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(cases[:1], Path(), planes=[(0,)], fusers=[Lighter()])
    text = (tmp_path / "here" / "evaluation.json").read_text()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"truths": None}, UsageError, "--reference dtcwt"),
        ({"truths": [np.zeros((3, 70, 140), np.uint8)]}, UsageError, "2 stacks and 1 image "),
        ({"truths": [np.zeros((3, 70, 99), np.uint8)] * 2}, StackError, r"\(3, 70, 99\)"),
        ({"truths": ["no-such.png"] * 2}, UnknownNameError, "no-such.png"),
        ({"reference": "dtcwt"}, OptionError, "both given"),
        ({"truths": None, "reference": "dctwt"}, UnknownNameError, "did you mean 'dtcwt'"),
        ({"truths": None, "reference": "dtcwt", "phantoms": 1}, OptionError, "no need of"),
        ({"planes": [(0, 0)]}, OptionError, "none twice"),
        ({"planes": []}, OptionError, "at least one set"),
        ({"planes": (-1, 0, 1)}, OptionError, r"give sets of focus offsets"),
        ({"planes": [(0.5,)]}, OptionError, "which are whole numbers"),
        ({"planes": [(-3, 0, 3)]}, UnknownNameError, "no plane -3"),
        ({"step": 0}, OptionError, "step=0"),
        ({"patch_px": 128}, StackError, "70 x 140"),
        ({"min_content": 0.9}, UsageError, "glass only"),
        ({"min_content": 1.5}, OptionError, "min_content=1.5"),
        ({"pictures": 0}, OptionError, "pictures=0"),
        ({"fusers": []}, OptionError, "at least one"),
        ({"fusers": [Lighter(), Lighter(by=5)]}, OptionError, "two fusers are called 'lighter'"),
        ({"fusers": ["no-such-fuser"]}, UnknownNameError, "no-such-fuser"),
        ({"fusers": {"plane 0": "lpp"}}, OptionError, "cannot be called 'plane 0'"),
        ({"fusers": {"mean of planes": "lpp"}}, OptionError, "a row of its own"),
        ({"fusers": {"lpp\nfine": "lpp"}}, OptionError, "a text of one line"),
        ({"fusers": {1: "lpp"}}, OptionError, "a text of one line"),
        ({"patch_px": 32.5}, OptionError, r"patch_px=32.5: give a whole number"),
        ({"pictures": 1.5}, OptionError, r"pictures=1.5: give a whole number"),
        ({"phantoms": "2"}, OptionError, r"phantoms='2': give a whole number"),
        ({"first_seed": 1e6}, OptionError, r"first_seed=1000000.0: give a whole number"),
        ({"step": 1.0}, OptionError, r"step=1.0: must be a whole number, 1 or more"),
        ({"min_content": "0.1"}, OptionError, r"min_content='0.1': give a number"),
    ],
)
def test_what_cannot_be_done(
    cases: list[Case],
    tmp_path: Path,
    given: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run(cases, tmp_path / "r", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [sf.evaluate, sf.train])
def test_a_url_is_no_folder(verb: Any, cases: list[Case], tmp_path: Path) -> None:
    given = compact("srgan") if verb is sf.train else [cases[0].stack]
    more = {"stacks": [tmp_path / "a.zarr"]} if verb is sf.train else {"truths": [cases[0].truth]}
    with pytest.raises(OutputError, match="s3://bucket/r is a URL"):
        verb(given, out="s3://bucket/r", **more)


def test_a_slide_given_twice_is_refused(tmp_path: Path) -> None:
    phantom = Phantom(128, 128, planes=3, seed=3)
    write_phantom(phantom, tmp_path / "a.zarr", progress=False)
    given = [tmp_path / "a.zarr", tmp_path / "a.zarr"]
    with pytest.raises(OptionError, match=r"a\.zarr was given twice"):
        sf.evaluate(given, ["lpp"], out=tmp_path / "r", patch_px=64)
    assert not (tmp_path / "r").exists()


def test_a_full_disk_is_one_error_and_nothing_stays(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("slidefusion.evaluation.report.write_csv", full)
    with pytest.raises(OutputError, match=r"No space left .*nothing of it is kept: make room"):
        run(cases[:1], tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_nothing_to_measure_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--phantoms"):
        sf.evaluate(out=tmp_path / "r", fusers=["lpp"])


def test_an_opened_stack_in_the_folder_that_is_replaced(cases: list[Case], tmp_path: Path) -> None:
    out = tmp_path / "results"
    run(cases[:1], out, planes=[(0,)], fusers=["lpp"])
    write_phantom(Phantom(64, 64, planes=3, seed=1), out / "s.zarr", progress=False)
    opened = sf.open_stack(out / "s.zarr")
    with pytest.raises(OutputError, match="contains the input"):
        sf.evaluate([opened], truths=[np.zeros((3, 64, 64), np.uint8)], out=out, overwrite=True)
    assert (out / "s.zarr").is_dir()
