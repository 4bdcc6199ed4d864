"""A stack which is moved, deleted, changed or made anew while it is fused."""

from __future__ import annotations

import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import slidefusion as sf
from slidefusion.errors import ProcessingError
from slidefusion.omezarr.record import is_complete, record_of
from slidefusion.omezarr.sources import ZarrSource
from slidefusion.phantom import Phantom
from slidefusion.verbs.phantom import write_phantom

SIDE = 300


def foreign(where: str, sharded: bool) -> np.ndarray:
    """An OME-Zarr stack of ones and more, as another program writes it."""
    data = np.random.default_rng(0).integers(1, 255, (1, 3, SIDE, SIDE), dtype=np.uint8)
    axes = [{"name": name, "type": kind} for name, kind in zip(
        "czyx", ("channel", "space", "space", "space"), strict=True)]  # fmt: skip
    scale = [{"type": "scale", "scale": [1.0, 1, 1, 1]}]
    ome = {
        "version": "0.5",
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
    }
    root = zarr.create_group(where, attributes={"ome": ome})
    shards = (1, 1, 128, 128) if sharded else None
    root.create_array("0", data=data, chunks=(1, 1, 64, 64), shards=shards)
    return data


def gone(where: Path) -> None:
    where.rename(where.with_name("elsewhere.zarr"))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("vanish", [gone, shutil.rmtree])
def test_what_vanished_is_not_black(
    tmp_path: Path, sharded: bool, vanish: Callable[[Path], None]
) -> None:
    where = tmp_path / "a.zarr"
    data = foreign(str(where), sharded)
    lazy = sf.fuse(where, "lpp", chunks=128)
    assert lazy[:, :64, :64].values.any()
    vanish(where)
    with pytest.raises(ProcessingError, match="gone: it was deleted, moved or unmounted"):
        lazy.compute()
    assert data.min() == 1


@pytest.mark.parametrize("how", ["moved", "changed"])
def test_a_slide_is_not_complete_whose_source_became_another(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, out = tmp_path / "a.zarr", tmp_path / "slide.zarr"
    foreign(str(where), sharded=False)
    read, reads = ZarrSource.read, []

    def meddling(self: ZarrSource, *given: Any) -> np.ndarray:
        reads.append(given)
        if len(reads) == 90:  # the overview is read, and some regions are
            if how == "moved":
                gone(where)
            else:
                (where / "0/c/0/1/2/3").unlink()
        return read(self, *given)

    monkeypatch.setattr(ZarrSource, "read", meddling)
    said = "gone: it was deleted" if how == "moved" else "was changed while it was read"
    with pytest.raises(ProcessingError, match=said):
        sf.fuse(where, "lpp", out=out, chunks=32, progress=False, retries=0)
    assert len(reads) > 90
    assert is_complete(record_of(dict(zarr.open_group(out, mode="r").attrs))) is False


def test_chunks_of_another_array_are_not_put_where_those_of_the_first_lay(tmp_path: Path) -> None:
    where = tmp_path / "a.zarr"
    data = foreign(str(where), sharded=False)
    stack = sf.open_stack(where)
    zarr.open_group(where)["0"].attrs["note"] = "an attribute changes no pixel"
    np.testing.assert_array_equal(stack.values, data)
    shutil.rmtree(where / "0")
    zarr.open_group(where).create_array("0", data=data, chunks=(1, 1, 32, 128))
    with pytest.raises(ProcessingError, match="was made anew since it was opened"):
        stack.compute()
    np.testing.assert_array_equal(sf.open_stack(where).values, data)


def own(where: Path, seed: int) -> None:
    """A stack of this package of one shape, whatever it shows."""
    write_phantom(Phantom(SIDE, SIDE, planes=3, seed=seed), where, overwrite=True, progress=False)


def test_another_stack_at_the_same_place_is_not_what_was_opened(tmp_path: Path) -> None:
    where, out = tmp_path / "a.zarr", tmp_path / "slide.zarr"
    own(where, seed=1)
    stack, lazy = sf.open_stack(where), sf.fuse(where, "lpp")
    truth = sf.open_slide(tmp_path / "a-truth.zarr")
    seen = stack.values
    own(where, seed=1)  # the same pixels
    np.testing.assert_array_equal(stack.values, seen)
    own(where, seed=2)
    elsewhere = pickle.loads(pickle.dumps(lazy))
    for read in (stack.compute, lazy.compute, truth.compute, elsewhere.compute):
        with pytest.raises(ProcessingError, match="another run has made that store anew"):
            read()
    with pytest.raises(ProcessingError, match="another run has made that store anew"):
        sf.fuse(stack, "lpp", out=out, progress=False, retries=0)
    again = sf.open_stack(where)
    assert not np.array_equal(again.values, seen)
    assert sf.fuse(again, "lpp").attrs["slidefusion"]["source"]["source"]["seed"] == 2


def test_a_slide_is_not_made_of_two_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, other, out = (tmp_path / name for name in ("a.zarr", "b.zarr", "slide.zarr"))
    own(where, seed=1)
    own(other, seed=2)
    read, reads, alone = ZarrSource.read, [], threading.Lock()

    def meddling(self: ZarrSource, *given: Any) -> np.ndarray:
        with alone:
            reads.append(given)
            if len(reads) == 90:  # the overview is read, and some regions are
                gone(where)
                other.rename(where)
            return read(self, *given)

    monkeypatch.setattr(ZarrSource, "read", meddling)
    with pytest.raises(ProcessingError, match="another run has made that store anew"):
        sf.fuse(where, "lpp", out=out, chunks=32, progress=False, retries=0)
    assert len(reads) > 90
    assert is_complete(record_of(dict(zarr.open_group(out, mode="r").attrs))) is False


def test_what_vanished_from_an_object_store_is_not_black() -> None:
    where = "memory://vanishing/a.zarr"
    store = zarr.storage.FsspecStore.from_url(where)
    foreign(store, sharded=False)  # type: ignore[arg-type]
    lazy = sf.fuse(where, "lpp", chunks=128)
    assert lazy[:, :64, :64].values.any()
    memory = fsspec.filesystem("memory")
    memory.rm("/vanishing/a.zarr/0/c/0/1/2", recursive=True)  # chunks left out are the fill value
    assert not sf.fuse(where, "lpp", planes=[0], chunks=128)[:, 140:180].values.any()
    memory.rm("/vanishing/a.zarr/0", recursive=True)
    with pytest.raises(ProcessingError, match="gone: it was deleted, moved or unmounted"):
        lazy.compute()
