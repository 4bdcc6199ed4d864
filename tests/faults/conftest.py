"""Clusters of real processes, and what an undisturbed run writes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import slidefusion as sf
from slidefusion.tasks import scheduling

from .workload import Brightest, Pattern

Files = dict[str, bytes]

REGION = 256


def files_of(store: Path) -> Files:
    """Every file of a store by its path, with its bytes."""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def assert_same(store: Path, undisturbed: Files) -> None:
    """Not a byte differs, and nothing lies about."""
    found = files_of(store)
    assert sorted(found) == sorted(undisturbed)
    different = [name for name in found if found[name] != undisturbed[name]]
    assert not different


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_FIRST_DELAY_SECONDS", 0.05)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of 2 planes of 1024 x 1024 px, in 16 shards a plane."""
    return convert(tmp_path_factory.mktemp("stack") / "stack.zarr", Pattern())


def convert(out: Path, source: Pattern, **more: Any) -> Path:
    sf.convert(source, out, shard_px=REGION, chunk_px=64, progress=False, **more)
    return out


def fuse(stack: Path | Pattern, out: Path, fuser: Brightest | None = None, **more: Any) -> Any:
    return sf.fuse(stack, fuser or Brightest(), out=out, chunks=REGION, progress=False, **more)


@pytest.fixture(scope="session")
def whole_stack(stack: Path) -> Files:
    return files_of(stack)


@pytest.fixture(scope="session")
def whole_slide(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Files]:
    """The files of an undisturbed fusion of ``stack``, by the fuser's options."""
    made: dict[Brightest, Files] = {}

    def make(fuser: Brightest) -> Files:
        if fuser not in made:
            out = tmp_path_factory.mktemp("whole") / "slide.zarr"
            fuse(stack, out, fuser)
            made[fuser] = files_of(out)
        return made[fuser]

    return make


@contextlib.contextmanager
def local_cluster(workers: int = 2, **more: Any) -> Iterator[tuple[Any, Any]]:
    """A LocalCluster of processes and a client of it; quiet, since workers die on purpose."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            **more,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield cluster, client


@pytest.fixture(scope="module")
def two_workers() -> Iterator[tuple[Any, Any]]:
    with local_cluster(2) as made:
        yield made
