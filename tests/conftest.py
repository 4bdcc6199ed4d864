"""Shared fixtures. No test needs data from outside the repository."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis
import numpy as np
import pytest

from slidefusion.fuser import Footprint, Fused, PlaneRange

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests beside each other would have more threads than there are processors, which wait for each
    # other in loops: those of the networks took twice as long. What needs threads asks for them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Examples are few and the same on every machine; HYPOTHESIS_PROFILE=thorough looks further.
hypothesis.settings.register_profile("default", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@dataclass(frozen=True)
class BlockSum:
    """Exact integer arithmetic that needs both its halo and its grid to be right.

    A pixel becomes the sum (modulo the dtype) of its ``period`` x ``period`` block and of the
    blocks around it, over all planes; blocks beyond the window count as nothing.
    """

    name: ClassVar[str] = "block-sum"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    device: ClassVar[str] = "cpu"
    period: int = 4

    @property
    def footprint(self) -> Footprint:
        return Footprint(halo=2 * self.period - 1, period=self.period)

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return 64 * channels * height * width

    def __call__(self, stack: Any) -> Fused:
        p = self.period
        total = np.zeros(stack.shape[1:], np.uint64)
        for plane in stack:
            total += plane.astype(np.uint64)
        c, h, w = total.shape
        blocks = total.reshape(c, h // p, p, w // p, p).sum((2, 4))
        around = np.pad(blocks, ((0, 0), (1, 1), (1, 1)))
        sums = sum(
            around[:, dy : dy + h // p, dx : dx + w // p] for dy in range(3) for dx in range(3)
        )
        image = np.repeat(np.repeat(sums, p, 1), p, 2).astype(stack.dtype)
        depth = (total[0] % len(stack)).astype(np.uint8)
        return Fused(image, depth)


@pytest.fixture
def block_sum() -> BlockSum:
    return BlockSum()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture
def small_stack(rng: np.random.Generator) -> np.ndarray:
    """(C, Z, Y, X) = (3, 5, 301, 419) uint8: texture, sharpest in the middle plane, and noise."""
    from scipy.ndimage import gaussian_filter

    texture = rng.normal(128, 60, (3, 301, 419))
    planes = []
    for z in range(5):
        blurred = gaussian_filter(texture, (0, 0.5 + abs(z - 2), 0.5 + abs(z - 2)))
        planes.append(blurred + rng.normal(0, 1, blurred.shape))
    return np.clip(np.stack(planes, axis=1), 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of a real S3 server; nothing that was connected to it is left over after it.

    Whatever is forgotten here would otherwise complain in whichever later test collects it.
    """
    from moto.server import ThreadedMotoServer

    _close_s3_connections()  # file systems keep the address of any server that was here before
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    _close_s3_connections()
    server.stop()
    gc.collect()


def _close_s3_connections() -> None:
    import s3fs
    from fsspec.asyn import sync

    from slidefusion.omezarr import remote, store

    store.open_array.cache_clear()
    remote.close_connections()
    for filesystem in s3fs.S3FileSystem._cache.values():
        # In an orderly way: clearing the cache gives them a tenth of a second, asynchronous none.
        if filesystem._s3 is not None and not filesystem.asynchronous:
            sync(filesystem.loop, filesystem._s3.close)
    s3fs.S3FileSystem.clear_instance_cache()
