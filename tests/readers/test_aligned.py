"""Planes moved upon each other: scans that drift by known amounts, out of focus by known ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import slidefusion as sf
from slidefusion.cli import main
from slidefusion.errors import SlidefusionWarning
from slidefusion.geometry import Size, Window
from slidefusion.readers.aligned import AlignedReader, aligned
from slidefusion.readers.base import Reader

MARGIN = 16
DRIFT = [(-9, 4), (-4, 2), (-2, 0), (0, 0), (2, -3), (5, -3)]
REFERENCE = 3


class Planes:
    """An array (C, Z, Y, X) that converts as a reader does."""

    name = "test"
    is_rgb = False
    pixel_size_um = (0.5, 0.5)
    channel_names = ("a", "b")
    origin = (7.0, 9.0)
    provenance: dict[str, Any] = {"source": "a test"}  # noqa: RUF012

    def __init__(self, array: np.ndarray, tile: tuple[int, int] = (64, 64)) -> None:
        self.array, self.tile = array, Size(*tile)
        self.shape, self.dtype = array.shape, array.dtype
        self.z_um = tuple(float(z) for z in range(self.shape[1]))
        self.reads = 0

    def read(self, z: int, window: Window) -> np.ndarray:
        assert window.y >= 0 <= window.x and window.height > 0 < window.width
        assert window.bottom <= self.shape[2] and window.right <= self.shape[3]
        self.reads += 1
        return self.array[(slice(None), z, *window.slices)]

    def close(self) -> None:
        pass


def scan(height: int, width: int, dtype: str, blur: float = 0.7) -> np.ndarray:
    """(2, Z, Y, X): cells seen from further and further away, each plane moved by its drift."""
    rng = np.random.default_rng(0)
    there = np.zeros((height + 2 * MARGIN, width + 2 * MARGIN))
    spots = rng.integers(0, there.size, there.size // 900)
    there.flat[spots] = rng.uniform(0.3, 1, spots.size)
    cells = np.clip(gaussian_filter(there, 4) * 80, 0, 0.7)
    full = 200 if dtype == "uint8" else 3000
    planes = []
    for z, (down, right) in enumerate(DRIFT):
        seen = full * (1 - gaussian_filter(cells, 0.5 + blur * abs(z - REFERENCE)))
        seen = seen + rng.normal(0, full / 100, seen.shape)
        planes.append(
            seen[MARGIN - down : MARGIN - down + height, MARGIN - right : MARGIN - right + width]
        )
    gray = np.stack(planes)
    return np.stack([gray, gray * 0.8]).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("tile", [(64, 64), (700, 640), (1, 1)])
def test_a_drift_is_found_whatever_the_focus(dtype: str, tile: tuple[int, int]) -> None:
    reader = Planes(scan(700, 640, dtype), tile)
    found: Any = aligned(reader, REFERENCE)
    assert isinstance(found, Reader)
    assert list(found.shifts) == DRIFT
    if tile == (700, 640):
        assert reader.reads == len(DRIFT) + 1  # each plane, which is decoded whole, once
    assert found.provenance["planes_moved_by_px"] == [[-y, -x] for y, x in DRIFT]
    assert found.origin == (7.0, 9.0) and found.provenance["source"] == "a test"


def test_the_reference_plane_stays() -> None:
    found: Any = aligned(Planes(scan(500, 500, "uint8")), 0)
    assert list(found.shifts) == [(y - DRIFT[0][0], x - DRIFT[0][1]) for y, x in DRIFT]


def test_the_place_where_something_is_is_found() -> None:
    """A twentieth of a slide, between the places at its borders and its middle."""
    array = np.full((2, 6, 6000, 5500), 190, np.uint8)
    array[:, :, 2300:3550, 1900:3100] = scan(1250, 1200, "uint8")
    found: Any = aligned(Planes(array), REFERENCE)
    assert list(found.shifts) == DRIFT


def test_planes_that_show_nothing_are_told_of() -> None:
    array = scan(500, 400, "uint8")
    array[:, 1] = 255
    with pytest.warns(SlidefusionWarning, match=r"planes -2 show nothing"):
        found: Any = aligned(Planes(array), REFERENCE)
    assert [shift for z, shift in enumerate(found.shifts) if z != 1] == [*DRIFT[:1], *DRIFT[2:]]


@pytest.mark.filterwarnings("ignore:planes .* show nothing:slidefusion.errors.SlidefusionWarning")
@pytest.mark.parametrize("kind", ["empty", "small", "unlike"])
def test_what_shows_nothing_to_compare_stays(kind: str) -> None:
    rng = np.random.default_rng(0)
    array = {
        "empty": 240 + rng.integers(0, 3, (2, 3, 300, 200)),
        "small": rng.integers(0, 255, (2, 3, 1, 2)),
        "unlike": rng.integers(0, 255, (2, 3, 300, 200)),
    }[kind].astype(np.uint8)
    found: Any = aligned(Planes(array), 1)
    assert set(found.shifts) == {(0, 0)}
    window = Window(0, 0, *array.shape[2:])
    assert np.array_equal(found.read(2, window), array[:, 2])


@given(
    st.tuples(st.integers(-60, 60), st.integers(-60, 60)),
    st.integers(0, 39),
    st.integers(0, 49),
    st.integers(1, 40),
    st.integers(1, 50),
)
def test_windows_are_those_of_the_moved_plane(
    shift: tuple[int, int], y: int, x: int, height: int, width: int
) -> None:
    array = np.arange(40 * 50, dtype=np.uint16).reshape(1, 1, 40, 50)
    window = Window(y, x, min(height, 40 - y), min(width, 50 - x))
    padded = np.pad(array[0, 0], 60, mode="edge")
    whole = padded[60 + shift[0] : 100 + shift[0], 60 + shift[1] : 110 + shift[1]]
    reader = AlignedReader(Planes(array), (shift,))  # type: ignore[arg-type]
    found = pickle.loads(pickle.dumps(reader)).read(0, window)
    assert np.array_equal(found[0], whole[window.slices])


def test_a_converted_stack_is_aligned(tmp_path: Path) -> None:
    array = scan(400, 380, "uint8")
    given: dict[str, Any] = {"reference": REFERENCE, "progress": False}
    sf.convert(Planes(array), tmp_path / "a.zarr", align=True, **given)
    moved = sf.open_stack(tmp_path / "a.zarr").values
    inner = slice(MARGIN, -MARGIN)
    for z, (down, right) in enumerate(DRIFT):
        expected = np.roll(array[:, z], (-down, -right), (1, 2))
        assert np.array_equal(moved[:, z, inner, inner], expected[:, inner, inner])
    record: Any = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["slidefusion"]
    assert record["source"]["planes_moved_by_px"] == [[-y, -x] for y, x in DRIFT]


def test_a_stack_that_drifts_is_warned_of(tmp_path: Path) -> None:
    array = scan(400, 380, "uint8")
    text = r"plane -3 9 px higher and 4 px further right than plane 0: .*--align"
    with pytest.warns(SlidefusionWarning, match=text) as told:
        sf.convert(Planes(array), tmp_path / "a.zarr", reference=REFERENCE, progress=False)
    assert [warning.filename for warning in told] == [__file__]
    # A pixel off; a warning would be an error.
    near = np.stack([array[:, REFERENCE], np.roll(array[:, REFERENCE], 1, -1)], axis=1)
    sf.convert(Planes(near), tmp_path / "b.zarr", reference=1, progress=False)


def test_the_command_line_warns_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = scan(400, 380, "uint8")[0]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=None)
    given = ["--pixel-size-um", "1", "--z-step-um", "1", "--no-progress"]
    for out, more, said in (("a.zarr", [], 1), ("b.zarr", ["--align"], 0)):
        run = ["convert", str(tmp_path / "a.tif"), str(tmp_path / out), *given, *more]
        assert main([*run, "--reference", str(REFERENCE)]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == said and all(line.startswith("warning: the planes") for line in lines)


def test_a_source_that_fails_now_and_then_is_aligned_all_the_same(tmp_path: Path) -> None:
    class Faltering(Planes):
        def read(self, z: int, window: Window) -> np.ndarray:
            found = super().read(z, window)
            if self.reads in (2, 5):
                raise OSError(16, "Device or resource busy")
            return found

    sf.convert(
        Faltering(scan(400, 380, "uint8")), tmp_path / "a.zarr", align=True, reference=REFERENCE,
        progress=False,
    )  # fmt: skip
    record: Any = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["slidefusion"]
    assert record["source"]["planes_moved_by_px"] == [[-y, -x] for y, x in DRIFT]


def test_values_that_are_no_numbers_are_no_obstacle() -> None:
    array = scan(700, 640, "float32")
    array[0, :, 30, 40:50] = np.nan
    found: Any = aligned(Planes(array), REFERENCE)
    assert list(found.shifts) == DRIFT


def test_faint_structures_on_a_high_level_are_seen() -> None:
    array = (scan(700, 640, "uint16") // 5 + 30000).astype(np.uint16)
    found: Any = aligned(Planes(array), REFERENCE)
    assert list(found.shifts) == DRIFT
