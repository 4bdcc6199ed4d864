"""The verbs on a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.errors import OutputError, ProcessingError, UnknownNameError

BUCKET = "slides"

# s3fs keeps its HTTP session open to the end of the process; that is no leak of ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    # fsspec keeps its file systems, and with them the address of any server that was here before.
    s3fs.S3FileSystem.clear_instance_cache()

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
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
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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


def test_what_is_not_there(bucket: str) -> None:
    with pytest.raises(UnknownNameError, match=r"no Zarr group at s3://slides/nowhere\.zarr"):
        sf.open_stack(f"{bucket}/nowhere.zarr")
    with pytest.raises((UnknownNameError, ProcessingError, OutputError)):
        sf.fuse(np.zeros((1, 2, 9, 9), np.uint8), out="s3://no-such-bucket/o.zarr", progress=False)
