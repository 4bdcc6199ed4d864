"""The fusers that are generators: the contract, what the networks are given, and what is refused."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import slidefusion as sf
from slidefusion import weights
from slidefusion.engine import ArraySource, WindowPlanes, fuse_array
from slidefusion.errors import OptionError, UnknownNameError, WeightsError
from slidefusion.fuser import Fuser
from slidefusion.fusers import generative
from slidefusion.fusers.focusgan import Focusgan
from slidefusion.fusers.fusiongan import FusionGan
from slidefusion.fusers.pix2pix import Pix2Pix
from slidefusion.fusers.srgan import Srgan
from slidefusion.geometry import Window
from slidefusion.overview import MemoryOverview
from slidefusion.testing import FuserContract
from slidefusion.testing.stacks import focus_stack, overview

torch = pytest.importorskip("torch")
from tests.fusers.networks import save_tiny, tiny  # noqa: E402

FUSERS: dict[str, Any] = {
    "focusgan": Focusgan,
    "fusiongan": FusionGan,
    "pix2pix": Pix2Pix,
    "srgan": Srgan,
}


FOLDER = Path(tempfile.gettempdir()) / f"slidefusion-tiny-weights-{os.getpid()}"
"""Known before the tests run, since the contract's options are."""


@pytest.fixture(scope="module", autouse=True)
def _weights() -> Iterator[None]:
    for fuser in FUSERS:
        for planes in (1, 3):
            save_tiny(FOLDER, fuser, planes)
    save_tiny(FOLDER, "focusgan", 3, masks=False)
    yield
    shutil.rmtree(FOLDER)


def path_of(name: str) -> str:
    return str(FOLDER / f"{name}.safetensors")


def settings_of(name: str, **options: Any) -> dict[str, Any]:
    return {"weights": path_of(name), "tile": 32, "overlap": 8, "batch": 16, **options}


class GenerativeContract(FuserContract):
    """Each configuration has weights, which are for one plane or for two and three."""

    examples = 3
    channels = (1, 3)
    exempt: ClassVar = {
        "identical_planes_are_an_identity": "it restores what is in no plane",
        "lone_sharp_plane_wins": "random weights choose nothing",
    }

    def plane_counts(self, fuser: Any, least: int = 1) -> list[int]:
        return [1] if weights.look_up(fuser.weights).planes == 1 else [2, 3]

    def ready_fuser(self, options: Any) -> Fuser:
        fuser: Any = self.make_fuser(**options)
        few = self.plane_counts(fuser)[0]
        prepared: Fuser = fuser.prepare(overview(focus_stack(1, few, 1, 64, 64, "uint8")))
        return prepared


class TestFocusgan(GenerativeContract):
    fuser_class = Focusgan
    options: ClassVar = [
        settings_of("focusgan-3", overlap=16),
        settings_of("focusgan-1", precision="float32", batch=3),
        settings_of("focusgan-3-False", blur_mask=False, overlap=0),
    ]


class TestFusionGan(GenerativeContract):
    fuser_class = FusionGan
    options: ClassVar = [settings_of("fusiongan-1")]
    examples = 2


class TestPix2Pix(GenerativeContract):
    fuser_class = Pix2Pix
    options: ClassVar = [settings_of("pix2pix-3")]
    channels = (2,)
    examples = 2


class TestSrgan(GenerativeContract):
    fuser_class = Srgan
    options: ClassVar = [settings_of("srgan-3", precision="float32")]
    examples = 3
