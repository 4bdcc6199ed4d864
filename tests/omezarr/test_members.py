"""Members of opened Zarr groups, and what writes and reads them where assertions are left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from slidefusion.omezarr.members import label_names, made_group, member

UNDER_O = """
import sys
from pathlib import Path

import slidefusion as sf
from slidefusion.phantom import Phantom
from slidefusion.verbs.info import describe
from slidefusion.verbs.phantom import write_phantom

assert False, "assertions are left out"
folder = Path(sys.argv[1])
for _ in ("new", "overwritten"):
    sf.convert(folder / "a.ome.tif", folder / "a.zarr", overwrite=True, progress=False)
    sf.fuse(folder / "a.zarr", out=folder / "b.zarr", overwrite=True, progress=False)
sf.fuse(folder / "a.zarr", out=folder / "b.zarr", verify=True, progress=False)
sf.plan_fuse(folder / "a.zarr", sample=1)
damages = sf.verify(folder / "b.zarr", progress=False)
labels = [label["name"] for label in describe(folder / "b.zarr")["labels"]]
write_phantom(Phantom(256, 256, planes=2), folder / "p.zarr", progress=False)
print(damages, labels)
"""


def test_all_is_made_and_read_under_python_o(tmp_path: Path, small_stack: np.ndarray) -> None:
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", small_stack, metadata={"axes": "CZYX", **sizes})
    command = [sys.executable, "-O", "-c", UNDER_O, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[] ['depth']"), done.stderr


@pytest.mark.parametrize("version", [2, 3])
def test_members(version: int) -> None:
    root = zarr.create_group(zarr.storage.MemoryStore(), zarr_format=version)
    labels = root.create_group("labels", attributes={"ome": {"labels": ["b", "a", "b"]}})
    array = labels.create_array("a", shape=(2,), dtype="u1")
    assert member(root, "labels") == labels and member(root, "labels/a") == array
    assert member(root, "other") is None and member(root, "labels/b") is None
    assert label_names(root) == ["a", "b"] and label_names(labels) == []
    with pytest.raises(ValueError, match="is invalid"):
        member(labels, "../labels")


def test_groups_are_made_once_with_those_above_them() -> None:
    root = zarr.create_group(zarr.storage.MemoryStore())
    made_group(root, "labels/depth").attrs["a"] = 1
    assert made_group(root, "labels/depth").attrs["a"] == 1
    assert made_group(root, "") is root
    assert sorted(name for name, _ in root.members(max_depth=None)) == ["labels", "labels/depth"]
