"""Settings: ranges, dictionaries, variation."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from slidefusion.errors import OptionError
from slidefusion.phantom import PhantomSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"na": "high"}, "na='high': must be a number from 0.05 to 1.4"),
        ({"mpp_um": 0.0}, "mpp_um=0.0: must be a number from 0.1 to 2"),
        ({"eosin": (1.0, 2.0)}, "eosin=.*: must be 3 numbers from 0 to 3"),
        ({"gray": 1}, "gray=1: must be True or False"),
        ({"density": float("nan")}, "density=nan"),
        ({"jpeg": 0.8}, "jpeg=0.8: must be a quality from 1 to 100, or 0 for none"),
        ({"na": 1.3, "refractive_index": 1.2}, "aperture must be smaller"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(OptionError, match=message):
        PhantomSettings(**values)


def test_unknown_names_get_the_near_one():
    with pytest.raises(OptionError, match="'denisty'; did you mean 'density'"):
        PhantomSettings.from_dict({"denisty": 1})


def test_json_round_trip():
    settings = PhantomSettings.varied(4)
    assert PhantomSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_varied_is_decided_by_its_seed_and_varies_everything():
    drawn = [PhantomSettings.varied(seed) for seed in range(60)]
    assert drawn[:5] == [PhantomSettings.varied(seed) for seed in range(5)]
    constant = {"refractive_index", "field_px"}
    for item in dataclasses.fields(PhantomSettings):
        values = {getattr(settings, item.name) for settings in drawn}
        assert (len(values) == 1) == (item.name in constant), item.name
    assert PhantomSettings.varied(1, gray=True, na=0.3).na == 0.3


def test_every_field_says_what_it_is():
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(PhantomSettings))
    body = tree.body[0].body
    for here, after in itertools.pairwise(body):
        if isinstance(here, ast.AnnAssign):
            assert isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
