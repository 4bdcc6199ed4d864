"""Where stores may lie, and stores in a child that was forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slidefusion.errors import OptionError
from slidefusion.omezarr.store import location


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "'s3://' names no bucket, host or path"),
        ("memory:///", "'memory:///' names no bucket, host or path"),
        ("http://bob:hunter2@host/a.zarr", "^the URL http://…@host/a.zarr has a password in it"),
        ("s3://key:hunter2/x@bucket/a.zarr", "^the URL s3://…@bucket/a.zarr has a password in it"),
        ("zip://a.zarr::https://bob:hunter2@host/a.zip", "has a password in it"),
    ],
)
def test_urls_that_no_store_is_opened_by(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as told:
        location(url)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a:b@c.zarr",
        "http://bob@host:8080/a@b.zarr",
        "http://host:8080/a@b.zarr",
        "memory://q[1]/a.zarr",
        "s3://bu[cket/x.zarr",
        "http://[::1]:80/a.zarr",
    ],
)
def test_urls_that_look_odd_and_are_places(url: str) -> None:
    assert location(f"{url}/") == url


def test_a_local_url_is_a_path(tmp_path: Path) -> None:
    assert location(f"local://{tmp_path}/a%20b.zarr") == str(tmp_path / "a%20b.zarr")
    assert location((tmp_path / "a b.zarr").as_uri()) == str(tmp_path / "a b.zarr")


def test_a_child_that_was_forked_reads_and_writes(tmp_path: Path) -> None:
    code = f"""
import multiprocessing, warnings
import numpy as np, zarr
import slidefusion as sf

warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
where = {str(tmp_path)!r}
stack = zarr.create_array(where + "/foreign.zarr", shape=(1, 3, 300, 300), dtype="uint8",
                          chunks=(1, 1, 64, 64))
stack[...] = np.random.default_rng(0).integers(0, 255, stack.shape, dtype=np.uint8)

def fuse(name):
    sf.fuse(stack, out=f"{{where}}/{{name}}.zarr", chunks=100, progress=False)
    return zarr.open_array(f"{{where}}/{{name}}.zarr", path="0", mode="r")[...].sum()

if __name__ == "__main__":
    mine = fuse("a")  # starts zarrs' threads, which a child does not have
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(fuse, ["b", "c"]) == [mine, mine]
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_codecs_that_zarrs_does_not_know_are_read_without_a_word(tmp_path: Path) -> None:
    code = f"""
import numcodecs, numpy as np, zarr
import slidefusion as sf

data = np.random.default_rng(0).integers(0, 255, (1, 2, 64, 64), dtype=np.uint8)
array = zarr.create_array({str(tmp_path / "delta.zarr")!r}, data=data, chunks=(1, 1, 32, 32),
                          filters=[numcodecs.Delta(dtype="u1")], zarr_format=2)
assert np.array_equal(sf.open_stack(array).values, data)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
