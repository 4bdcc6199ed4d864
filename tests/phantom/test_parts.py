"""Cache, camera, placement."""

from __future__ import annotations

import io
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from slidefusion.phantom import PhantomSettings
from slidefusion.phantom.cache import Cache
from slidefusion.phantom.camera import _quantise, illumination
from slidefusion.phantom.drawing import draw
from slidefusion.phantom.render import plan_layers
from slidefusion.phantom.scene import REACH_UM, SITE_UM, field, site, structures_near
from slidefusion.phantom.structures import deepest_um


def test_cache_makes_once_and_forgets_the_oldest():
    cache, made, together = Cache(100), [], threading.Barrier(4)

    def ask(key):
        return cache.get(key, lambda: (made.append(key) or f"value {key}", 40))

    def rush(_):
        together.wait()
        return ask("a")

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(rush, range(4))) == {"value a"}
    assert made == ["a"]
    ask("b"), ask("a"), ask("c")  # b is the oldest now
    ask("a"), ask("b")
    assert made == ["a", "b", "c", "b"]


def test_a_key_that_two_threads_make_counts_once() -> None:
    """As when it was evicted while one waited for it, so that a third began with a new lock."""
    cache = Cache(100)

    def make() -> tuple[int, int]:
        cache._making.clear()
        cache.get("a", lambda: (1, 60))
        return 2, 60

    assert cache.get("a", make) == 2
    assert cache._bytes == 60


def test_a_failed_make_leaves_no_lock() -> None:
    cache = Cache(100)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: (1 // 0, 1))
    assert not cache._making


def test_cache_tries_again_after_a_failure():
    cache = Cache(10)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: (1 // 0, 1))
    assert cache.get("a", lambda: (5, 1)) == 5


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_quantisation_is_that_of_jpeg(quality):
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.normal(0, 3, (64, 96)), axis=1) + 140 + rng.normal(0, 4, (64, 96))
    image = np.clip(smooth, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    other = np.asarray(Image.open(file)).astype(int)
    ours = _quantise(image[None], quality)[0].astype(int)
    assert np.abs(ours - other).mean() < 0.5
    assert np.abs(ours - image).mean() > 0.3


def test_vignette_darkens_the_corners_of_each_field():
    light = illumination(PhantomSettings(vignette=0.1, field_px=256), 0, 0, 512, 512)
    assert light[0, 128, 128] == pytest.approx(238, abs=0.05)
    assert light[0, 256, 256] == pytest.approx(238 * 0.9, abs=0.05)
    assert np.array_equal(light[:, :256, :256], light[:, 256:, 256:])


def test_field_is_smooth_and_within_0_and_1():
    values = np.array([field(3, 1, 0.0, x, 100.0) for x in np.arange(0, 3000, 2.0)])
    assert 0 <= values.min() < 0.2 and 0.8 < values.max() <= 1
    assert np.abs(np.diff(values)).max() < 0.04


@pytest.mark.parametrize("seed", range(6))
def test_nothing_leaves_its_reach(seed):
    settings = PhantomSettings.varied(seed, density=3.0, clustering=4.0)
    found = [
        (i, j, item) for i in range(3) for j in range(3) for item in site(seed, settings, i, j)
    ]
    for i, j, item in found:
        for at, start in ((item.y_um, i * SITE_UM), (item.x_um, j * SITE_UM)):
            assert start - REACH_UM < at - item.reach_um
            assert at + item.reach_um < start + SITE_UM + REACH_UM
    for _, _, item in found[:: max(1, len(found) // 12)]:
        for sheet in draw(item, settings):
            height, width = np.array(sheet.amount.shape) * settings.mpp_um
            y, x = sheet.y * settings.mpp_um, sheet.x * settings.mpp_um
            slack = 2 * settings.mpp_um
            assert item.y_um - item.reach_um - slack <= y
            assert y + height <= item.y_um + item.reach_um + slack
            assert item.x_um - item.reach_um - slack <= x
            assert x + width <= item.x_um + item.reach_um + slack
            assert max(abs(sheet.bottom_um), abs(sheet.top_um)) <= deepest_um(settings) + 1e-5
            assert sheet.amount.min() >= 0 and np.isfinite(sheet.amount).all()


def test_structures_near_finds_those_that_touch():
    settings = PhantomSettings()
    wide = structures_near(1, settings, 0, 0, 600, 600)
    narrow = structures_near(1, settings, 200, 300, 260, 350)
    touching = {
        item.key
        for item in wide
        if item.y_um + item.reach_um > 200
        and item.y_um - item.reach_um < 260
        and item.x_um + item.reach_um > 300
        and item.x_um - item.reach_um < 350
    }
    assert {item.key for item in narrow} == touching
    assert len({item.key for item in wide}) == len(wide)


def test_planes_lie_on_layers():
    for step in (0.3, 1.0, 2.7, 4.5):
        layers = plan_layers(PhantomSettings(z_step_um=step))
        assert math.isclose(layers.per_um * step, layers.per_step)
