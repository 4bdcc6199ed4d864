"""Running the command line inside this process, and a small stack to run it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import tifffile

import slidefusion as sf
from slidefusion.cli import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message, after checking that it is one line and no traceback."""
        assert "Traceback" not in self.err + self.out
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert not lines[0].startswith("error: internal")
        return lines[0].removeprefix("error: ")


class Runner(Protocol):
    def __call__(self, *args: object) -> Ended: ...


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run ``slidefusion ARGS`` and return how it ended."""

    def run(*args: object) -> Ended:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


def write_tiff(path: Path, array: np.ndarray, **metadata: object) -> Path:
    """An OME-TIFF of (Z, Y, X)."""
    tifffile.imwrite(path, array, ome=True, metadata={"axes": "ZYX", **metadata})
    return path


PHYSICAL = {
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.25,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 2.0,
    "PhysicalSizeZUnit": "µm",
}


@pytest.fixture(scope="session")
def kept_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of 5 planes of 90 x 130 px that tests only read."""
    folder = tmp_path_factory.mktemp("cli")
    planes = np.random.default_rng(1).integers(0, 255, (5, 90, 130), dtype=np.uint8)
    source = write_tiff(folder / "slide.ome.tif", planes, **PHYSICAL)
    sf.convert(source, folder / "stack.zarr", progress=False)
    return folder / "stack.zarr"
