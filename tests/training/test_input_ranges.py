"""What a card says of the inputs of convolutions: by ``train``, or added afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slidefusion import weights
from slidefusion.errors import OptionError, UnknownNameError
from slidefusion.nets.input_ranges import from_text
from slidefusion.training.input_ranges import add_to_card
from slidefusion.training.run import train
from tests.training.test_trainer import small


def card_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("method", ["focusgan", "srgan"])
def test_they_can_be_added_as_train_writes_them(
    corpus: list[Path], tmp_path: Path, method: str
) -> None:
    path = train(small(method, steps=2), corpus, tmp_path / "run", accelerator="cpu")
    assert path is not None
    written = card_of(path)
    without = {key: value for key, value in written.items() if key != "input_ranges"}
    path.with_suffix(".json").write_text(json.dumps(without))
    add_to_card(path, [str(stack) for stack in corpus])
    added = card_of(path)
    network = weights.load(str(path)).network
    wanted = from_text(written["input_ranges"], network)
    found = from_text(added.pop("input_ranges"), network)
    assert added == without
    assert found.keys() == wanted.keys()
    for name, pair in wanted.items():  # the weights in the file are rounded
        np.testing.assert_allclose(found[name], pair, atol=0.1 * float(pair.abs().max()))


def test_what_has_no_recipe_or_makes_no_image_is_refused(
    corpus: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError):
        add_to_card(tmp_path / "none.safetensors", corpus)
    path = train(small("blur", steps=1), corpus, tmp_path / "run", accelerator="cpu")
    assert path is not None
    assert "input_ranges" not in card_of(path)
    before = path.with_suffix(".json").read_bytes()
    with pytest.raises(OptionError, match="only generators run in 8 bits"):
        add_to_card(path, corpus)
    assert path.with_suffix(".json").read_bytes() == before
    path.with_suffix(".json").write_text(json.dumps({**card_of(path), "recipe": None}))
    with pytest.raises(OptionError, match=r"a card without a recipe .* .recipe is None.: there"):
        add_to_card(path, corpus)


def test_only_a_card_beside_a_file_is_written(
    corpus: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=r"weights='srgan-1': give the path"):
        add_to_card("srgan-1", corpus)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    path = train(small("srgan", steps=1), corpus, tmp_path / "run", accelerator="cpu")
    assert path is not None
    path.with_suffix(".json").write_text(json.dumps({**card_of(path), "input_ranges": None}))
    add_to_card(f"~/run/{path.name}", corpus)
    assert card_of(path)["input_ranges"]
