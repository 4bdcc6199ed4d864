"""Places given as objects of other libraries that stand for a path."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

import slidefusion as sf
from slidefusion.errors import OptionError
from slidefusion.phantom import Phantom
from slidefusion.verbs.info import describe
from slidefusion.verbs.phantom import write_phantom


class Place(os.PathLike[str]):
    """A path whose text is something else."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def test_any_path_is_taken(tmp_path: Path, small_stack: np.ndarray) -> None:
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", small_stack, metadata={"axes": "CZYX", **sizes})
    stack, out = Place(tmp_path / "a.zarr"), Place(tmp_path / "b.zarr")
    report = Place(tmp_path / "r.json")
    sf.convert(Place(tmp_path / "a.ome.tif"), stack, progress=False, report=report)
    assert np.array_equal(sf.open_stack(stack), small_stack)
    for more in ({}, {"verify": True}, {"overwrite": True}):
        made = sf.fuse(stack, out=out, progress=False, report=report, **more)
    assert np.array_equal(made, sf.open_slide(out))
    with pytest.raises(OptionError, match="give a path or URL"):
        sf.fuse(stack, out=os.fsencode(out))  # type: ignore[arg-type]
    assert sf.plan_fuse(stack, out=Place(tmp_path / "c.zarr"), sample=1).regions == 1
    assert sf.verify(out, progress=False) == [] and describe(out)["kind"] == "slide"
    write_phantom(Phantom(256, 256, planes=2), Place(tmp_path / "p.zarr"), progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.ome.tif", "a.zarr", "b.zarr", "p-depth.zarr", "p-truth.zarr", "p.zarr", "r.json"
    ]  # fmt: skip
