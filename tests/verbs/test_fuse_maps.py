"""What a fuser gives beside the image is written as the slide is: cut, continued and checked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image
from scipy.ndimage import gaussian_filter

import slidefusion as sf
from slidefusion.engine import fuse_array
from slidefusion.errors import PluginError
from slidefusion.fuser import Footprint, Fused, PlaneRange
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom


@dataclass(frozen=True)
class WithMaps:
    """The first plane; beside it half of every plane, and which is the brightest."""

    name: ClassVar[str] = "with_maps"
    planes: ClassVar[PlaneRange] = PlaneRange()
    footprint: ClassVar[Footprint] = Footprint()
    device: ClassVar[str] = "cpu"
    wrong: str = ""

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        return 8 * planes * channels * height * width

    def __call__(self, stack: Any, /) -> Fused:
        planes = np.asarray(stack)
        halves = planes.mean(axis=1, dtype=np.float32) / 2
        maps: dict[str, Any] = {"half": halves, "brightest": halves.argmax(0).astype(np.uint8)}
        if self.wrong == "name":
            maps["labels"] = halves
        elif self.wrong == "dtype":
            maps["half"] = halves.astype(np.float64)
        elif self.wrong == "shape":
            maps["half"] = halves[:1]
        elif self.wrong == "moody" and planes.shape[-1] != 1:
            del maps["half"]
        elif self.wrong == "wider" and planes.shape[-1] != 1:
            maps["brightest"] = maps["brightest"].astype(np.uint16) * 100
        elif self.wrong == "more" and planes.shape[-1] != 1:
            maps["brightest"] = np.stack([maps["brightest"]] * len(planes))
        return Fused(planes[0], maps=maps)


def test_maps_are_images_beside_the_slide(small_stack: np.ndarray, tmp_path: Path) -> None:
    whole = fuse_array(WithMaps(), small_stack[:, 1:4])
    out = tmp_path / "slide.zarr"
    sf.fuse(small_stack, WithMaps(), planes=[-1, 0, 1], chunks=128, out=out, progress=False)
    group = zarr.open_group(out, mode="r")
    for name, channels in (
        ("half", ["half -1", "half 0", "half 1"]),
        ("brightest", ["brightest"]),
    ):
        image = Image.from_zarr(group[name])
        assert [c["label"] for c in group[name].attrs["ome"]["omero"]["channels"]] == channels
        levels = image.ome_attributes.multiscales[0].datasets
        assert len(levels) == len(group.attrs["ome"]["multiscales"][0]["datasets"])
        found = np.asarray(group[f"{name}/0"])
        assert found.dtype == whole.maps[name].dtype
        assert np.array_equal(found.reshape(whole.maps[name].shape), whole.maps[name])
    assert sf.verify(out, progress=False) == []


def test_damaged_maps_are_found_and_made_again(small_stack: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "slide.zarr"
    sf.fuse(small_stack, WithMaps(), chunks=128, out=out, progress=False)
    before = np.asarray(zarr.open_array(out, path="half/0"))
    shutil.rmtree(out / "half/0/c/0/1")
    assert {damage.array for damage in sf.verify(out, progress=False)} >= {"half/0"}
    sf.fuse(small_stack, WithMaps(), out=out, verify=True, progress=False)
    assert sf.verify(out, progress=False) == []
    assert np.array_equal(zarr.open_array(out, path="half/0"), before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("name", "a map named 'labels': a name is small letters"),
        ("dtype", r"a map 'half' \(5, 1, 1\) of float64 for 5 planes"),
        ("shape", r"a map 'half' \(1, 1, 1\) of float32 for 5 planes"),
        ("moody", r"gave \['brightest'\].*and \['brightest', 'half'\] when it was asked first"),
        ("wider", r"gave 1 x uint16 as 'brightest' .* and 1 x uint8 when it was asked first"),
        ("more", r"gave 5 x uint8 as 'brightest' .* and 1 x uint8 when it was asked first"),
    ],
)
def test_a_broken_map_is_the_plugins_fault(
    small_stack: np.ndarray, tmp_path: Path, wrong: str, message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        sf.fuse(small_stack, WithMaps(wrong), out=tmp_path / "o.zarr", progress=False)


def test_blur_masks_of_focusgan(tmp_path: Path) -> None:
    """With the weights that ship: 255 is blurred, one image a plane, whatever the cutting."""
    pytest.importorskip("torch")
    sharp = Phantom(400, 400, planes=3, seed=7).render(Window(250, 100, 130, 150)).truth
    blurred = gaussian_filter(sharp, (0, 4, 4))
    stack = np.stack([blurred, sharp, blurred], axis=1)
    options = {"tile": 96, "overlap": 32, "keep_masks": True}
    written = {}
    for chunks in (64, 400):
        out = tmp_path / f"{chunks}.zarr"
        sf.fuse(stack, "focusgan", chunks=chunks, out=out, progress=False, **options)
        group = zarr.open_group(out, mode="r")
        Image.from_zarr(group["blur"])
        assert group.attrs["slidefusion"]["options"]["keep_masks"] is True
        assert sf.verify(out, progress=False) == []
        written[chunks] = np.asarray(group["blur/0"])
    blur = written[64].astype(int)
    assert blur.shape == (3, 130, 150) and written[64].dtype == np.uint8
    assert np.abs(blur - written[400]).max() <= 1
    assert blur[1].mean() < 0.6 * min(blur[0].mean(), blur[2].mean()), "the middle one is sharp"
