"""Every worker is asked whether it reaches stores at URLs, before its first region."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zarr

import slidefusion as sf
from slidefusion.errors import ProcessingError
from slidefusion.tasks import preflight
from slidefusion.tasks.reach import stamps_of

from .conftest import convert, fuse, local_cluster
from .workload import Pattern

SMALL = Pattern(512, 512, 2)


@pytest.fixture(scope="module")
def bucket(s3_server: tuple[str, int]) -> Iterator[str]:
    """A bucket, a stack in it, and what this process and its children reach it by."""
    import boto3

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret-for-anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*s3_server))
        client = boto3.client("s3")
        client.create_bucket(Bucket="reached")  # a name of its own: moto's belong to the process
        client.close()
        sf.convert(SMALL, "s3://reached/stack.zarr", shard_px=256, chunk_px=64, progress=False)
        yield "s3://reached"


def lose_credentials() -> None:
    del os.environ["AWS_ACCESS_KEY_ID"]


def test_a_worker_without_credentials_is_named_before_the_first_region(
    bucket: str, stack: Path, tmp_path: Path
) -> None:
    given = f"{bucket}/stack.zarr"
    with local_cluster(2) as (_, client):
        client.wait_for_workers(2)
        fuse(given, f"{bucket}/whole.zarr", client=client)
        assert sf.open_slide(f"{bucket}/whole.zarr").shape == (1, 512, 512)

    with local_cluster(2) as (_, client):
        client.wait_for_workers(2)
        (poor, _) = client.scheduler_info(n_workers=-1)["workers"]
        client.run(lose_credentials, workers=[poor])
        began = time.monotonic()
        wanted = f"worker {poor} cannot reach {{}}: .*NoCredentials.*; give it the credentials"
        with pytest.raises(ProcessingError, match=wanted.format(given)):
            fuse(given, tmp_path / "slide.zarr", client=client)
        assert not list(tmp_path.iterdir())
        out = f"{bucket}/slide.zarr"
        with pytest.raises(ProcessingError, match=wanted.format(out)):
            fuse(stack, out, client=client)
        assert time.monotonic() - began < 60


def test_what_is_in_this_process_only_is_refused(
    two_workers: tuple[Any, Any], stack: Path, tmp_path: Path
) -> None:
    client, given, out = two_workers[1], "memory://reach17/stack.zarr", "memory://reach17/o.zarr"
    convert(given, SMALL)  # type: ignore[arg-type]
    wanted = r"worker tcp://.* does not see {}: memory:// is only in this process; give a place"
    with pytest.raises(ProcessingError, match=wanted.format(given)):
        fuse(given, tmp_path / "slide.zarr", client=client)  # type: ignore[arg-type]
    with pytest.raises(ProcessingError, match=wanted.format(out)):
        fuse(stack, out, client=client)  # type: ignore[arg-type]
    assert not (tmp_path / "slide.zarr").exists()


def test_workers_in_this_process_see_its_memory(tmp_path: Path) -> None:
    from distributed import Client

    given = "memory://reach17/inside.zarr"
    convert(given, SMALL)  # type: ignore[arg-type]
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as client:
        fuse(given, tmp_path / "slide.zarr", client=client)  # type: ignore[arg-type]
    assert sf.open_slide(tmp_path / "slide.zarr").shape == (1, 512, 512)


def test_another_store_at_the_same_address(
    two_workers: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What only this process sees, at an address of another kind.
    monkeypatch.setattr(preflight, "stamps_of", lambda urls: dict.fromkeys(urls, ("abc", "")))
    with pytest.raises(ProcessingError, match=r"worker tcp.* does not see at local://.* what this"):
        preflight.check_workers_reach(two_workers[1], [f"local://{tmp_path}"])


def test_what_tells_nothing_of_a_store() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/reach17/page/zarr.json", b"<html>no such page</html>")
    zarr.create_group(zarr.storage.FsspecStore.from_url("memory://reach17/v2"), zarr_format=2)
    urls = [f"memory://reach17/{name}" for name in ("page", "v2", "none")]
    found = stamps_of(urls)
    (page, _), (v2, _), (none, _) = (found[url] for url in urls)
    assert page == none == "nothing" and v2 not in (None, "nothing")
