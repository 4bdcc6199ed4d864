"""What ``prepare`` sees is the same from a store that is waited for and from one that is not."""

import threading
import time

import numpy as np
import pytest

from slidefusion.geometry import Window
from slidefusion.overview import SlideOverview
from slidefusion.stack import FocusStack

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 2, 700, 900), dtype=np.uint8)


class Store:
    """Planes that take ``seconds`` to arrive; counts the threads that read."""

    shape = PIXELS.shape
    dtype = PIXELS.dtype

    def __init__(self, seconds):
        self.seconds, self.threads = seconds, set()

    def read(self, z, window):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        return PIXELS[(slice(None), z, *window.slices)]


def overview_of(store):
    stack = FocusStack(store, None, store.shape, store.dtype, {}, z_um=(-1.0, 1.0))
    return SlideOverview(stack, (0, 1))


@pytest.mark.parametrize("seconds", [0, 0.02])
def test_patches_are_pixels_of_the_slide(seconds, monkeypatch):
    # A busy machine may take long over a quick store, too.
    monkeypatch.setattr("slidefusion.overview._QUICK_S", 0.01 if seconds else 60.0)
    store = Store(seconds)
    patches = overview_of(store).patches
    assert patches.shape == (25, 2, 3, 128, 128)
    windows = [Window(y, x, 128, 128) for y in range(0, 700, 128) for x in range(0, 900, 128)]
    places = {PIXELS[(slice(None), 0, *w.slices)].tobytes() for w in windows}
    assert {patch[0].tobytes() for patch in patches} <= places
    assert (len(store.threads) > 2) == (seconds > 0)
