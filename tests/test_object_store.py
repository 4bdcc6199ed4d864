"""The verbs on a real S3 server on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.errors import OutputError, ProcessingError, UnknownNameError

BUCKET = "slides"


@pytest.fixture(scope="module")
def bucket(s3_server: tuple[str, int]) -> Iterator[str]:
    import boto3

    host, port = s3_server
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-for-anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
        client.close()


def test_convert_and_fuse_in_a_bucket(bucket: str, small_stack: np.ndarray) -> None:
    local = sf.fuse(small_stack).values
    from .test_stack import Planes

    sf.convert(
        Planes(small_stack, (-2.0, -1.0, 0.0, 1.0, 2.0)), f"{bucket}/stack.zarr", progress=False
    )
    opened = sf.open_stack(f"{bucket}/stack.zarr")
    assert np.array_equal(opened.values, small_stack)
    slide = sf.fuse(f"{bucket}/stack.zarr", out=f"{bucket}/slide.zarr", chunks=128, progress=False)
    assert np.array_equal(slide.values, local)
    assert "not-a-secret" not in str(slide.attrs)
    with pytest.raises(OutputError, match="already complete"):
        sf.fuse(f"{bucket}/stack.zarr", out=f"{bucket}/slide.zarr", progress=False)
    with pytest.raises(OutputError, match="the input"):
        sf.fuse(f"{bucket}/stack.zarr", out=f"{bucket}/stack.zarr/in", progress=False)
    for spelling in (
        "s3a://slides/stack.zarr",
        "s3://slides//stack.zarr",
        f"{bucket}/./stack.zarr",
    ):
        for verb in (sf.convert, sf.fuse):
            with pytest.raises(OutputError, match=" is the input "):
                verb(f"{bucket}/stack.zarr", out=spelling, overwrite=True, progress=False)
    assert np.array_equal(sf.open_stack(f"{bucket}/stack.zarr").values, small_stack)


def test_a_shard_that_was_lost(bucket: str, small_stack: np.ndarray) -> None:
    import fsspec

    from slidefusion.geometry import Window
    from slidefusion.stack import from_group

    from .test_stack import Planes

    where = f"{bucket}/lossy.zarr"
    planes = Planes(small_stack, (-2.0, -1.0, 0.0, 1.0, 2.0))
    sf.convert(planes, where, progress=False, shard_px=256)
    fsspec.filesystem("s3").rm_file(f"{where}/0/c/0/3/1/1")
    source = from_group(where).source
    assert source is not None
    for window in (Window(0, 0, 301, 256), Window(0, 200, 256, 219)):
        assert np.array_equal(source.read(3, window), planes.read(3, window))
    for window in (Window(250, 250, 7, 7), Window(300, 256, 1, 1)):
        with pytest.raises(ProcessingError, match="is missing"):
            source.read(3, window)
    with pytest.raises(ProcessingError, match=r"the shard 0/c/0/3/1/1 is missing: copy it again"):
        sf.fuse(where).compute()
    black = np.zeros_like(small_stack)
    sf.convert(Planes(black, (-2.0, -1.0, 0.0, 1.0, 2.0)), f"{bucket}/black.zarr", progress=False)
    assert not sf.fuse(f"{bucket}/black.zarr").values.any()


def test_what_is_not_there(bucket: str) -> None:
    with pytest.raises(UnknownNameError, match=r"no Zarr group at s3://slides/nowhere\.zarr"):
        sf.open_stack(f"{bucket}/nowhere.zarr")
    with pytest.raises((UnknownNameError, ProcessingError, OutputError)):
        sf.fuse(np.zeros((1, 2, 9, 9), np.uint8), out="s3://no-such-bucket/o.zarr", progress=False)


def test_a_process_ends_with_no_connection_open(bucket: str) -> None:
    code = f"""
import atexit, gc, threading
import numpy as np, s3fs
import slidefusion as sf

def forget():
    s3fs.S3FileSystem.clear_instance_cache()
    gc.collect()

atexit.register(forget)  # called after what is registered later
sf.fuse(np.zeros((1, 2, 64, 64), np.uint8), out="{bucket}/ends.zarr", progress=False)
for _ in range(3):
    thread = threading.Thread(target=sf.open_slide, args=["{bucket}/ends.zarr"])
    thread.start()
    thread.join()
file_systems = list(s3fs.S3FileSystem._cache.values())
assert sum(f.asynchronous for f in file_systems) == 1, file_systems  # not one a thread
"""
    command = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
