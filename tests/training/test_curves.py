"""Curves: columns that mean the same in every row, and rows that are whole."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from slidefusion.training.curves import Curves, steps_in
from slidefusion.training.run import train
from tests.training.test_trainer import small


def test_columns_stay_when_the_discriminator_joins(corpus: list[Path], tmp_path: Path) -> None:
    told: dict[int, dict[str, float]] = {}
    recipe = small("focusgan", steps=20, warm_up=15)
    given = {"accelerator": "cpu", "blur_model": None}
    train(recipe, corpus, tmp_path, on_step=told.__setitem__, **given)  # type: ignore[arg-type]
    with (tmp_path / "losses.csv").open(newline="") as file:
        first, last = csv.DictReader(file)
    assert list(first) == ["step", "content", "adversarial", "discriminator"]
    assert first == {
        "step": "10", "content": repr(told[10]["content"]), "adversarial": "", "discriminator": "",
    }  # fmt: skip
    assert last == {"step": "20", **{name: repr(value) for name, value in told[20].items()}}


@pytest.mark.parametrize("half", ["1", "10,0.", "10,0.25", "10,0.25\r"])
def test_half_a_row_is_none(half: str, tmp_path: Path) -> None:
    """A disk was full, or the run killed, while it was written."""
    table = tmp_path / "losses.csv"
    table.write_bytes(b"step,mae\r\n5,0.5\r\n" + half.encode())
    assert steps_in(table) == [5]
    curves = Curves(tmp_path, 10, ["mae"])
    curves.losses(10, {"mae": 0.125})
    curves.close()
    assert table.read_bytes() == b"step,mae\r\n5,0.5\r\n10,0.125\r\n"


def test_columns_of_an_earlier_version_are_moved_aside(tmp_path: Path) -> None:
    table = tmp_path / "losses.csv"
    table.write_bytes(b"step,content\r\n10,0.5\r\n20,0.7,0.6,0.4\r\n")
    curves = Curves(tmp_path, 20, ("content", "adversarial"))
    curves.losses(30, {"content": 0.25})
    curves.close()
    assert (tmp_path / "losses-before.csv").read_text().split() == [
        *("step,content", "10,0.5", "20,0.7,0.6,0.4"),
    ]
    assert table.read_text().split() == ["step,content,adversarial", "30,0.25,"]
