"""Fusers that declare what the protocol does not allow: each is one error, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.declarations import declared_bytes
from slidefusion.errors import OptionError, PluginError
from slidefusion.fuser import Footprint, Overview, PlaneRange
from slidefusion.geometry import Size

from .conftest import BlockSum

STACK = np.ones((1, 3, 40, 50), np.uint8)


def made(**attributes: Any) -> Any:
    """A fuser object with these attributes instead of its own."""
    return type("Odd", (BlockSum,), attributes)()


def _fail(self: Any, *_: Any) -> None:
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"footprint": 5}, "declares footprint=5: it must be a Footprint"),
        ({"planes": 3}, "declares planes=3: it must be a PlaneRange"),
        ({"name": None}, "declares name=None: it must be a str"),
        ({"device": 0}, "declares device=0: it must be a str"),
        ({"footprint": property(_fail)}, "its footprint cannot be told: ValueError: boom"),
        ({"working_bytes": 10}, "its working_bytes is no method"),
        ({"working_bytes": lambda self, *_: None}, r"working_bytes\(3, 1, .* gave None: it must"),
        ({"working_bytes": lambda self, *_: -5}, "gave -5: it must be the number of bytes"),
        ({"working_bytes": lambda self, *_: float("inf")}, "gave inf"),
        ({"working_bytes": lambda self: 0}, r"'block-sum' failed: TypeError: .*positional"),
        ({"prepare": lambda self, overview: None}, "returned None: it must return a fuser"),
        ({"prepare": _fail}, "prepare of fuser 'block-sum' failed: ValueError: boom"),
        (
            {"prepare": lambda self, overview: made(footprint=None)},
            "what prepare of fuser 'block-sum' returned declares footprint=None",
        ),
    ],
)
def test_a_wrong_declaration_is_named(
    tmp_path: Path, attributes: dict[str, Any], message: str
) -> None:
    for out in (None, tmp_path / "o.zarr"):
        with pytest.raises(PluginError, match=message):
            sf.fuse(STACK, made(**attributes), out=out)
    assert not (tmp_path / "o.zarr").exists()


def test_bytes_may_be_any_number() -> None:
    for given, found in ((np.int64(7), 7), (7.5, 8), (np.float32(0), 0)):
        fuser = made(working_bytes=lambda self, *_, given=given: given)
        assert declared_bytes(fuser, 1, 1, Size(4, 4)) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"halo": 2.5},
        {"halo": -1},
        {"halo": None},
        {"period": 0},
        {"period": "4"},
        {"tolerance": 1},
        {"tolerance": "0"},
        {"tolerance": float("nan")},
    ],
)
def test_footprints_are_whole_pixels(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="in whole pixels"):
        Footprint(**wrong)
    footprint = Footprint(np.int64(3), np.uint8(2))
    assert (footprint, type(footprint.halo)) == (Footprint(3, 2), int)


@pytest.mark.parametrize("wrong", [(0,), (3, 2), (1.5,), (1, "many")])
def test_planes_are_counted_from_one(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(OptionError, match="the smaller first"):
        PlaneRange(*wrong)


def test_what_prepare_learned_is_recorded_or_refused(tmp_path: Path) -> None:
    fuser = made(prepare=lambda self, overview: BlockSum(overview.thumbnail.max() + np.uint8(3)))
    with pytest.raises(OptionError, match=r"period=.*cannot be recorded.*\.item\(\)"):
        sf.fuse(STACK, fuser, out=tmp_path / "o.zarr")
    assert not (tmp_path / "o.zarr").exists()


def test_a_fuser_that_prepares_another(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Learns(BlockSum):
        def prepare(self, overview: Overview) -> Learns:
            return Learns(8)

    assert sf.fuse(STACK, Learns(4)).attrs["slidefusion"]["options"] == {"period": 8}
