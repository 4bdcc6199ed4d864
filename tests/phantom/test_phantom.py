"""The phantom as a slide: windows, seeds, errors, pickling."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidefusion.errors import OptionError
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom, PhantomRegion, PhantomSettings
from slidefusion.readers.base import Reader

SLIDE = Phantom(1100, 1200, planes=3, seed=11, settings=PhantomSettings(gray=True))


@pytest.fixture(scope="module")
def whole():
    return SLIDE.render(Window(0, 0, SLIDE.height, SLIDE.width))


def same(a: PhantomRegion, b: PhantomRegion) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(a, b, strict=True)
    )


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_window_equals_the_same_part_of_the_whole(whole, data):
    y = data.draw(st.integers(0, SLIDE.height - 1))
    x = data.draw(st.integers(0, SLIDE.width - 1))
    height = data.draw(st.integers(1, SLIDE.height - y))
    width = data.draw(st.integers(1, SLIDE.width - x))
    window = Window(y, x, height, width)
    part = PhantomRegion(*(array[..., *window.slices] for array in whole))
    assert same(SLIDE.render(window), part)
    assert np.array_equal(SLIDE.read(1, window), part.stack[1])


def test_order_and_threads_change_nothing(whole, empty_caches):
    windows = [Window(y, x, 550, 600) for y in (0, 550) for x in (600, 0)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(SLIDE.render, reversed(windows)))
    for window, part in zip(reversed(windows), parts, strict=True):
        assert same(part, PhantomRegion(*(array[..., *window.slices] for array in whole)))


def test_size_of_the_slide_changes_nothing(whole):
    window = Window(300, 200, 400, 500)
    larger = Phantom(5000, 7000, planes=3, seed=11, settings=SLIDE.settings)
    assert np.array_equal(larger.stack(window), whole.stack[..., *window.slices])


def test_seed_decides(whole, empty_caches):
    window = Window(0, 0, 300, 300)
    again = Phantom(1100, 1200, planes=3, seed=11, settings=SLIDE.settings)
    other = Phantom(1100, 1200, planes=3, seed=12, settings=SLIDE.settings)
    assert np.array_equal(again.stack(window), whole.stack[..., :300, :300])
    assert not np.array_equal(other.truth(window), again.truth(window))


def test_shapes_and_kinds():
    colour = Phantom(90, 130, planes=4, z_step_um=1.5, seed=2)
    region = colour.render(Window(10, 20, 70, 100))
    assert colour.shape == (3, 4, 90, 130)
    assert region.stack.shape == (4, 3, 70, 100)
    assert region.truth.shape == (3, 70, 100)
    assert region.depth_um.shape == region.cell_mask.shape == (70, 100)
    assert [a.dtype.name for a in region] == ["uint8", "uint8", "float32", "bool"]
    assert colour.z_um == (-3.0, -1.5, 0.0, 1.5)
    assert colour.z_um[colour.reference] == 0.0
    assert colour.channel_names == ("red", "green", "blue")
    assert colour.pixel_size_um == (0.243, 0.243)
    assert SLIDE.channel_names == ("gray",) and SLIDE.shape[0] == 1
    assert isinstance(colour, Reader)


def test_depth_is_known_where_there_is_material(whole):
    material = whole.cell_mask
    assert 0.05 < material.mean() < 0.95
    assert np.isfinite(whole.depth_um[material]).all()
    assert np.isnan(whole.depth_um[~material]).mean() > 0.9
    assert np.nanmax(np.abs(whole.depth_um)) <= SLIDE.settings.depth_um + 5


def test_clear_glass_is_white():
    bare = PhantomSettings(density=0, neutrophils=0, debris=0, mucus=0, bacteria=0, vignette=0)
    region = Phantom(512, 512, planes=2, seed=1, settings=bare).render(Window(0, 0, 512, 512))
    assert not region.cell_mask.any() and np.isnan(region.depth_um).all()
    for channel, white in enumerate(bare.white):
        assert (region.truth[channel] == white).all()
        expected = np.hypot(np.sqrt(255 * white / bare.full_well), np.sqrt(1 / 12))
        assert region.stack[:, channel].std() == pytest.approx(expected, rel=0.02)
        assert region.stack[:, channel].mean() == pytest.approx(white, abs=0.02)
    first, second = (plane.astype(float) - plane.mean() for plane in region.stack[:, 0])
    assert abs((first * second).mean()) < 0.02  # noise of the planes is independent
    assert abs((first[:, 1:] * first[:, :-1]).mean()) < 0.02  # and that of neighbours


def test_pickles_small_and_says_how_to_make_it_again():
    copy = pickle.loads(pickle.dumps(SLIDE))
    window = Window(5, 6, 70, 80)
    assert len(pickle.dumps(SLIDE)) < 4000
    assert np.array_equal(copy.stack(window), SLIDE.stack(window))
    made = json.loads(json.dumps(SLIDE.provenance))
    again = Phantom(
        made["height"],
        made["width"],
        planes=made["planes"],
        seed=made["seed"],
        settings=PhantomSettings.from_dict(made["settings"]),
    )
    assert again.provenance == SLIDE.provenance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0}, "height=0: must be a whole number from 1"),
        ({"width": 2.5}, "width=2.5: must be a whole number"),
        ({"width": 2**22 + 1}, "width=4194305: must be a whole number from 1 to 4194304"),
        ({"planes": True}, "planes=True: must be a whole number from 1 to 101"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0"),
        ({"z_step_um": 0}, "z_step_um=0: must be a number from 0.2 to 20"),
        ({"settings": {"na": 0.5}}, "must be a PhantomSettings"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(OptionError, match=message):
        Phantom(**{"height": 10, "width": 10, **arguments})


@pytest.mark.parametrize(
    "window",
    [Window(0, 0, 0, 5), Window(-1, 0, 5, 5), Window(0, 0, 1101, 5), Window(1099, 1199, 2, 1)],
)
def test_windows_outside_are_refused(window):
    with pytest.raises(OptionError, match="inside"):
        SLIDE.render(window)
    with pytest.raises(OptionError, match="inside"):
        SLIDE.read(0, window)


def test_planes_outside_are_refused():
    with pytest.raises(OptionError, match="plane 3: must be from 0 to 2"):
        SLIDE.read(3, Window(0, 0, 1, 1))


def test_importing_it_compiles_nothing():
    code = "import sys, slidefusion.phantom; print('numba' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
