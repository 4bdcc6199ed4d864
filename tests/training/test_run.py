"""What ``train`` refuses before it begins."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from slidefusion.cli import main
from slidefusion.errors import UsageError
from slidefusion.training.run import check_installed, train
from tests.training.test_trainer import small


class Place:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_any_path_is_a_path(corpus: list[Path], tmp_path: Path) -> None:
    recipe = small("blur", steps=1)
    truth = Place(corpus[0].with_name(f"{corpus[0].stem}-truth.zarr"))
    given: Any = (recipe, Place(corpus[0]), Place(tmp_path / "run"))
    assert train(*given, truths=truth, accelerator="cpu")  # type: ignore[arg-type]


def test_what_training_needs_is_asked_for_before_phantoms_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_installed()
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name in ("scipy", "tensorboard") else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(UsageError, match=r"needs scipy, tensorboard: .*'slidefusion\[train\]'"):
        check_installed()
    run = ["train", "blur", "--phantoms", "1", "--corpus", str(tmp_path / "c"), "--out", "r"]
    assert main(run) == 2
    assert "training needs scipy" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
