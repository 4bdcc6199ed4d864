"""Switches: what counts as true in Python is not yet what somebody meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.demo.run import run_demo
from slidefusion.errors import OptionError
from slidefusion.phantom import Phantom
from slidefusion.run_options import check_flags
from slidefusion.verbs.phantom import write_phantom

CALLS: list[tuple[str, Callable[..., Any]]] = [
    ("overwrite", lambda at, **flag: sf.batch(at / "slides.csv", **flag)),
    ("keep_going", lambda at, **flag: sf.batch(at / "slides.csv", **flag)),
    ("overwrite", lambda at, **flag: sf.convert(at / "a.tif", at / "a.zarr", **flag)),
    ("align", lambda at, **flag: sf.convert(at / "a.tif", at / "a.zarr", **flag)),
    ("overwrite", lambda at, **flag: sf.evaluate(phantoms=1, out=at, **flag)),
    ("overwrite", lambda at, **flag: sf.fuse(at / "a.zarr", out=at / "b.zarr", **flag)),
    ("progress", lambda at, **flag: sf.verify(at / "a.zarr", **flag)),
    ("overwrite", lambda at, **flag: write_phantom(Phantom(99, 99), at / "a.zarr", **flag)),
    ("overwrite", lambda at, **flag: run_demo(at, **flag)),
]


@pytest.mark.parametrize(("flag", "call"), CALLS)
def test_a_text_is_refused(flag: str, call: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"{flag}='no': give True or False"):
        call(tmp_path, **{flag: "no"})
    assert not list(tmp_path.iterdir())


def test_the_truth_of_numpy_is_taken() -> None:
    check_flags(overwrite=np.False_, verify=np.bool_(True), progress=True)
