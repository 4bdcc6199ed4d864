"""``slidefusion batch``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import PHYSICAL, Runner, write_tiff


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two slides, the second one cut off in the middle."""
    planes = np.random.default_rng(0).integers(0, 255, (2, 70, 60), dtype=np.uint8)
    write_tiff(tmp_path / "good.ome.tif", planes, **PHYSICAL)
    bad = write_tiff(tmp_path / "bad.ome.tif", planes, **PHYSICAL)
    bad.write_bytes(bad.read_bytes()[:5000])
    path = tmp_path / "slides.csv"
    path.write_text("source,levels\ngood.ome.tif,2\nbad.ome.tif,\n")
    return path


def test_batch(cli: Runner, manifest: Path, tmp_path: Path) -> None:
    args = ("batch", manifest, "--out-dir", tmp_path / "out", "--retries", 0, "--at-once", 2)
    ended = cli(*args)
    assert ended.code == 1
    assert "1 of 2 slides failed" in ended.error and "slides.status.csv" in ended.error
    lines = ended.out.splitlines()
    assert sum(line.startswith("done ") for line in lines) == 1
    assert sum(line.startswith("failed ") for line in lines) == 1
    assert lines[2].startswith("1 of 2 slides done, ")
    assert lines[3].startswith(f"line 3: {tmp_path / 'bad.ome.tif'}: ")
    manifest.write_text("source,levels\ngood.ome.tif,2\n")
    ended = cli(*args)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("1 of 1 slide done, ")
    assert cli("info", tmp_path / "out" / "good-fused.zarr").code == 0


def test_refused(cli: Runner, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text("source,fuser\ngood.ome.tif,lpq\nnowhere.tif,\n")
    ended = cli("batch", manifest)
    assert ended.code == 2
    assert "2 problems in" in ended.error and "line 2: " in ended.error
    assert "did you mean 'lpp'" in ended.error and "line 3: " in ended.error
    assert "no manifest" in cli("batch", tmp_path / "nowhere.csv").error
    assert "at_once=0" in cli("batch", manifest, "--at-once", 0).error
    assert {path.name for path in tmp_path.iterdir()} == {
        "good.ome.tif", "bad.ome.tif", "slides.csv",
    }  # fmt: skip
