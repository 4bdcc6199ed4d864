"""What ``prepare`` sees is the same from a store that is waited for and from one that is not."""

import threading
import time

import numpy as np
import pytest

from slidefusion.errors import ProcessingError
from slidefusion.geometry import Window
from slidefusion.overview import SlideOverview
from slidefusion.stack import FocusStack
from slidefusion.tasks import scheduling

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 2, 700, 900), dtype=np.uint8)


class Store:
    """Planes that take ``seconds`` to arrive; counts the threads that read.

    Each part is there after ``failures`` attempts that raise ``error``.
    """

    shape = PIXELS.shape
    dtype = PIXELS.dtype

    def __init__(self, seconds, failures=0, error=None):
        self.seconds, self.threads = seconds, set()
        self.failures, self.error, self.asked = failures, error, {}

    def read(self, z, window):
        self.threads.add(threading.get_ident())
        self.asked[z, window] = self.asked.get((z, window), 0) + 1
        time.sleep(self.seconds)
        if self.asked[z, window] <= self.failures:
            raise self.error
        return PIXELS[(slice(None), z, *window.slices)]


def overview_of(store, **more):
    stack = FocusStack(store, None, store.shape, store.dtype, {}, z_um=(-1.0, 1.0))
    return SlideOverview(stack, (0, 1), **more)


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


BUSY = OSError(16, "Please reduce your request rate.")


def test_what_may_pass_is_read_again(monkeypatch):
    monkeypatch.setattr(scheduling, "_FIRST_DELAY_SECONDS", 0.01)
    whole, troubled = overview_of(Store(0)), overview_of(Store(0, 2, BUSY), retries=2)
    assert np.array_equal(troubled.patches, whole.patches)
    assert np.array_equal(troubled.thumbnail, whole.thumbnail)
    assert np.array_equal(whole.thumbnail, PIXELS.swapaxes(0, 1))
    with pytest.raises(ProcessingError, match=r"looking at the slide, .*\(tried 2 times\).*rate"):
        _ = overview_of(Store(0, 2, BUSY), retries=1).thumbnail


@pytest.mark.parametrize("error", [BUSY, ValueError("no such codec")])
def test_the_first_that_fails_for_good_ends_it(error, monkeypatch):
    monkeypatch.setattr(scheduling, "_FIRST_DELAY_SECONDS", 0.01)
    store = Store(0, 99, error)
    with pytest.raises(ProcessingError, match=r"rate|codec"):
        _ = overview_of(store, retries=1).patches
    assert len(store.asked) <= 2  # planes of the first patch
    assert max(store.asked.values()) == (2 if error is BUSY else 1)
