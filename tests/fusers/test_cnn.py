"""`cnn`: the contract, and each step from scores to weights against its definition."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import ndimage

import slidefusion as sf
from slidefusion.fusers.cnn import Cnn
from slidefusion.testing import FuserContract
from slidefusion.testing.stacks import blur, texture

torch = pytest.importorskip("torch")
from slidefusion.fusers import focus_maps  # noqa: E402
from slidefusion.nets.inference import for_inference  # noqa: E402
from tests.fusers.networks import folder_of, save_tiny, tiny  # noqa: E402

FOLDER = folder_of("cnn")
WEIGHTS = {"weights": str(FOLDER / "cnn.safetensors")}


@pytest.fixture(scope="module", autouse=True)
def _weights() -> Iterator[None]:
    save_tiny(FOLDER, "cnn", 2)
    yield
    shutil.rmtree(FOLDER)


class TestCnn(FuserContract):
    fuser_class = Cnn
    options: ClassVar = [{**WEIGHTS, "radius": 3, "precision": "float32"}]
    channels = (1, 3)
    examples = 3
    exempt: ClassVar = {"lone_sharp_plane_wins": "random weights choose nothing"}


def test_bfloat16_cuts_within_the_tolerance() -> None:
    contract: Any = TestCnn()
    contract.test_tiles_equal_the_whole({**WEIGHTS, "precision": "bfloat16"})


def test_the_focus_map_is_the_mean_over_covering_patches() -> None:
    network = tiny("focus_classifier")
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40, 46), dtype=np.float32)
    with torch.inference_mode():
        fast = for_inference(network.merged(), torch.float32)
        odds = focus_maps.focus_map(fast, first, second)
        found = torch.sigmoid(torch.from_numpy(odds)).numpy()
        # Every patch of the reflected images by itself, with what its convolutions see around it.
        a, b = (np.pad(image, 20, mode="symmetric") for image in (first, second))
        scores = np.full((33, 36), np.nan)
        places = [(i, j) for i in range(2, 31) for j in range(2, 34)]
        pair = [
            torch.from_numpy(
                np.stack(
                    [image[2 * i - 4 : 2 * i + 20, 2 * j - 4 : 2 * j + 20] for i, j in places]
                )[:, None]
            )
            for image in (a, b)
        ]
        logits = network(*pair)[:, :, 2, 2]
        for place, score in zip(places, torch.softmax(logits, 1)[:, 1].tolist(), strict=True):
            scores[place] = score
    for row, column in ((0, 0), (7, 11), (19, 22), (0, 22)):
        wanted = scores[row + 3 : row + 11, column + 3 : column + 11].mean()
        assert found[row, column] == pytest.approx(wanted, abs=1e-4)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    network = for_inference(tiny("focus_classifier").merged(), torch.float32)
    images = np.random.default_rng(1).random((2, 61, 90), dtype=np.float32)
    whole = focus_maps.focus_map(network, *images)
    monkeypatch.setattr(focus_maps, "_CELLS", 11)
    np.testing.assert_allclose(focus_maps.focus_map(network, *images), whole, rtol=2e-6, atol=2e-5)


def test_odds_add_up() -> None:
    steps = [np.float32([[1.0, -1.0, 2.0]]), np.float32([[-0.5, 0.4, 1.0]])]
    assert focus_maps.best_plane(steps).tolist() == [[1, 0, 2]]


def test_small_regions_go_and_large_ones_keep_their_shape() -> None:
    decision = torch.zeros(80, 90, dtype=torch.int32)
    decision[20:60, 30:70] = 1
    wanted = decision.clone()
    decision[5:9, 5:11] = 1
    decision[40, 50] = 0
    decision[10:13, 60:64] = 2
    assert torch.equal(focus_maps.consistent(decision, 3), wanted)


def test_where_no_plane_has_a_region_nothing_changes() -> None:
    decision = torch.from_numpy(np.indices((20, 20)).sum(axis=0) % 2).int()
    assert torch.equal(focus_maps.consistent(decision, 2), decision)


def test_the_guided_filter_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(2)
    guide, mask = texture(rng, 1, 50, 60)[0], (blur(rng.random((1, 50, 60)), 9)[0] > 0.5) * 1.0

    def box(image: np.ndarray) -> np.ndarray:
        inside = ndimage.uniform_filter(np.ones_like(image), 17, mode="constant")
        mean: np.ndarray = ndimage.uniform_filter(image, 17, mode="constant") / inside
        return mean

    slope = (box(guide * mask) - box(guide) * box(mask)) / (box(guide**2) - box(guide) ** 2 + 0.1)
    wanted = box(slope) * guide + box(box(mask) - slope * box(guide))
    smooth = focus_maps.GuidedFilter(torch.from_numpy(guide).float(), 8, 0.1)
    found = smooth(torch.from_numpy(mask).float()).numpy()
    np.testing.assert_allclose(found, np.clip(wanted, 0, 1), atol=1e-5)


def test_a_perfect_classifier_gives_the_sharp_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the gradient's energy as the network, the image is the sharp half of each plane."""
    rng = np.random.default_rng(3)
    sharp = texture(rng, 3, 120, 160)
    soft = blur(sharp, 12)
    left = np.arange(160) < 80
    stack = np.stack([np.where(left, sharp, soft), np.where(left, soft, sharp)])
    stack = np.rint(stack * 255).astype(np.uint8)

    def energy(network: Any, first: np.ndarray, second: np.ndarray) -> Any:
        sums = []
        for image in (first, second):
            detail = np.abs(ndimage.laplace(image))
            sums.append(ndimage.uniform_filter(detail, 16)[::2, ::2])
        return 100 * (sums[1] - sums[0])

    monkeypatch.setattr(focus_maps, "focus_map", energy)
    fused = Cnn(**WEIGHTS)(stack)
    clear = np.abs(np.arange(160) - 79.5) > 20
    error = np.abs(fused.image / 255 - sharp)[..., clear]
    assert error.mean() < 0.1 * np.abs(soft - sharp)[..., clear].mean()
    assert fused.depth is not None
    assert (fused.depth[:, clear] == (~left)[clear]).all()


FORKED = """
import os, sys
import numpy as np
from slidefusion.fusers.cnn import Cnn

stack = np.random.default_rng(0).integers(0, 255, (2, 1, 600, 600), np.uint8)
fuser = Cnn(weights=sys.argv[1])
before = fuser(stack).image
child = os.fork()
if not child:
    os._exit(0 if np.array_equal(fuser(stack).image, before) else 1)
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_it_works_in_a_forked_process() -> None:
    """Where the threads that torch began before are gone, and would be waited for."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", FORKED, WEIGHTS["weights"]]
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(100)
def test_planes_that_workers_compute_are_not_waited_for_by_all_workers(tmp_path: Path) -> None:
    """Blocks of a Dask array that are computed by the threads that the fuser computes with."""
    import dask.array as da

    from slidefusion.fusers.torch_workers import torch_workers

    planes = np.random.default_rng(0).integers(0, 255, (1, 3, 128, 128), dtype=np.uint8)

    def by_a_worker(block: np.ndarray) -> np.ndarray:
        return torch_workers().submit(block.copy).result()

    lazy = da.from_array(planes, chunks=(1, 1, 32, 32)).map_blocks(by_a_worker)
    found = sf.fuse(lazy, "cnn", chunks=64, out=tmp_path / "a.zarr", progress=False)
    expected = sf.fuse(planes, "cnn", chunks=64, progress=False)
    np.testing.assert_array_equal(found.values, expected.values)
