"""Recipes: the paper's numbers, schedules, and changes by name."""

from __future__ import annotations

import pytest

from slidefusion.errors import OptionError
from slidefusion.training.recipe import METHODS, Recipe, compact, published


def test_the_defaults_are_the_papers() -> None:
    recipe = published("focusgan")
    assert recipe == Recipe("focusgan")
    assert recipe.learning_rate == 0.5e-4 and recipe.discriminator_rate == 0.25e-4
    assert recipe.batch == 1 and recipe.crop_px == 512 and recipe.adversarial_weight == 0.001
    assert recipe.rate(37_210) == 1.0 and recipe.rate(37_211) == 0.8
    assert recipe.rate(2 * 37_211) == pytest.approx(0.64)


def test_the_blur_model_is_published_with_its_own_rate() -> None:
    recipe = published("blur")
    assert recipe.learning_rate == 1e-3 and recipe.batch == 4
    assert {recipe.rate(step) for step in (0, recipe.steps // 2, recipe.steps - 1)} == {1.0}
    generator = vars(published("focusgan"))
    for method in ("fusiongan", "pix2pix", "srgan"):
        assert vars(published(method)) == {**generator, "method": method}


def test_every_generator_gets_the_same_care() -> None:
    shared = [
        {
            k: v
            for k, v in vars(compact(m)).items()
            if k not in ("method", "network", "discriminator")
        }
        for m in METHODS
        if m not in ("blur", "cnn")
    ]
    assert all(settings == shared[0] for settings in shared)


def test_cosine_goes_up_then_down() -> None:
    recipe = compact("focusgan", steps=1000)
    rates = [recipe.rate(step) for step in range(1000)]
    top = rates.index(max(rates))
    assert 45 <= top <= 55 and rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True) and rates[-1] < 0.02


def test_changes_by_name() -> None:
    recipe = compact("focusgan").changed(
        {"steps": 10, "network.width": 8, "augmentation.stain": 0.5, "learning_rate": 1}
    )
    assert recipe.steps == 10 and recipe.network["width"] == 8 and recipe.learning_rate == 1
    assert recipe.augmentation.stain == 0.5 and recipe.network["unshuffle"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": 3}, "did you mean 'steps'"),
        ({"steps": "many"}, "must be of type int"),
        ({"steps": 0}, "must be at least 1"),
        ({"augmentation.stian": 0.1}, "augmentation.NAME=VALUE"),
        ({"network": 3}, "network.NAME=VALUE"),
        ({"schedule": "linear"}, "'epoch' or 'cosine'"),
        ({"precision": "half"}, "'auto', 'float32' or 'bfloat16'"),
        ({"average": 1.0}, "less than 1"),
        ({"moved": 0.5}, "needs start"),
        ({"seed": -1}, "at least 0"),
        ({"learning_rate": float("nan")}, "rates above 0"),
        ({"discriminator_rate": -1.0}, "rates above 0"),
        ({"network.planes": 3}, "--planes"),
        ({"network.channels": 1}, "crops have three"),
        ({"network.masks": False}, "--blur-model none"),
        ({"network.width": 0}, "network.width=0: must be at least 1"),
        ({"discriminator.width": -4}, "discriminator.width=-4"),
        ({"moved": 0.0, "start": "focusgan-1"}, "above 0"),
        ({"clip": -1.0}, "clip -1.0: must be finite, and at least 0"),
        ({"warm_up": -5}, "warm_up -5: must be finite"),
        ({"adversarial_weight": float("nan")}, "adversarial_weight nan"),
        ({"real_masks": 7.0}, "real_masks, a share, from 0 to 1"),
        ({"max_step": -2}, "max_step must be at least 1"),
        ({"spacing_um": -3.0}, "spacing_um above 0"),
        ({"augmentation.stain": -1.0}, "augmentation.stain -1.0: must be finite, and at least 0"),
        ({"augmentation.border": 5.0}, "augmentation.border 5.0: .* at most 1: it is a share"),
    ],
)
def test_wrong_changes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        compact("focusgan").changed(changes)


@pytest.mark.parametrize("planes", [2, 4, 5])
def test_a_generator_takes_one_plane_or_three(planes: int) -> None:
    with pytest.raises(OptionError, match=f"planes {planes}: .*choose 1 or 3"):
        Recipe("srgan", planes=planes)
    assert Recipe("cnn", planes=planes).planes == planes


def test_a_size_in_a_list_is_checked() -> None:
    with pytest.raises(OptionError, match=r"network.blocks=\[1, 0, 2\]: must be at least 1"):
        compact("blur").changed({"network.blocks": [1, 0, 2]})


def test_unknown_method() -> None:
    with pytest.raises(OptionError, match="choose one of focusgan"):
        Recipe("cyclegan")
