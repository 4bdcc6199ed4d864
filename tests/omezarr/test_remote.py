"""Stores at URLs that cannot be opened: is it the place, or what lies there?"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from zarr.storage import StorePath

import slidefusion as sf
from slidefusion.errors import ProcessingError, StackError
from slidefusion.omezarr.remote import close_connections, url_exists, url_store
from slidefusion.omezarr.store import open_array, open_group


def test_metadata_at_a_url_that_is_damaged() -> None:
    fsspec.filesystem("memory").pipe_file(
        "/remote17/stack.zarr/zarr.json", b'{"zarr_format": 3, "no'
    )
    with pytest.raises(StackError, match=r"the Zarr metadata of memory://remote17.* is damaged"):
        open_group("memory://remote17/stack.zarr")


def test_a_store_can_be_used_again_after_its_connections_were_closed(tmp_path: Path) -> None:
    """fsspec keeps the file system, and with it the session that was closed."""
    zarr.create_group(tmp_path / "a.zarr", attributes={"made": "here"})
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            for _ in range(2):
                group = open_group(f"http://127.0.0.1:{server.server_port}/a.zarr")
                assert dict(group.attrs) == {"made": "here"}
                close_connections()
        finally:
            HTTPFileSystem.clear_instance_cache()
            server.shutdown()
            serving.join()


def test_an_address_that_is_none() -> None:
    # What libraries raise for it are ValueErrors, as zarr does for metadata.
    url = "http://127.0.0.1:99999/stack.zarr"
    with pytest.raises(ProcessingError, match=rf"cannot open {url}: .*[Pp]ort.*; check its addr"):
        open_group(url)


def test_settings_of_a_store_that_are_wrong() -> None:
    code = "from slidefusion.cli import main; raise SystemExit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code, "info", "s3://bucket/stack.zarr"],
        env={**os.environ, "AWS_ENDPOINT_URL": "nonsense"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "error: cannot open s3://bucket/stack.zarr: ValueError: Invalid endpoint"
    )
    assert "nonsense" in line and "settings for such stores" in line


CLOSES_ITSELF = """
import asyncio, weakref
weakref.finalize(asyncio, str)  # as others have, so that finalizers come after what zarr does
import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from slidefusion.omezarr.remote import url_store

async def close():
    print("closed")

class Azure(AsyncFileSystem):
    protocol = "azure"
    def __init__(self, **more):
        super().__init__(**more)
        weakref.finalize(self, sync, asyncio.get_running_loop(), close)

fsspec.register_implementation("azure", Azure)
url_store("azure://box/a.zarr", read_only=True)
"""


def test_a_file_system_that_closes_itself_has_its_loop_for_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CLOSES_ITSELF], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")


def test_what_does_not_answer_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/remote19/a.zarr/zarr.json", b"{}")
    place = StorePath(url_store("memory://remote19/a.zarr", read_only=True), "zarr.json")
    assert url_exists(place) and not url_exists(place / "0")

    async def busy(*_: object, **__: object) -> bytes:
        raise OSError(5, "busy")

    monkeypatch.setattr(place.store.fs, "_cat_file", busy)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="busy"):
        url_exists(place)


class NoSuffixes(MemoryFileSystem):  # type: ignore[misc]
    """Takes a negative start for a place, as Azure's does, and raises what comes of that."""

    protocol = "nosuffix"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fails = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("nosuffix://", "memory://")))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        if (start or 0) < 0 or (self.fails and "/c/" in path):
            raise ValueError("Required Content-Range response header is missing or malformed.")
        return bytes(super().cat_file(path, start, end))


def test_a_store_that_knows_no_suffixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("nosuffix", NoSuffixes)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 300, 300), dtype=np.uint8)
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "ZYX", **sizes})
    out = "nosuffix://store/a.zarr"

    def convert(**more: Any) -> None:
        sf.convert(tmp_path / "a.ome.tif", out, shard_px=256, chunk_px=64, progress=False, **more)

    convert()
    assert np.array_equal(sf.open_stack(out).values[0], pixels)
    part = open_array(out, "0", "r", "")[:, :, :9, :9]  # of which it looks up the chunks
    assert np.array_equal(part[0], pixels[:, :9, :9])
    assert sf.verify(out, progress=False) == []
    # What its library raises says nothing of the data, of whatever kind the error is.
    before = dict(NoSuffixes.store)
    monkeypatch.setattr(NoSuffixes, "fails", True)
    with pytest.raises(ProcessingError, match="Content-Range"):
        sf.verify(out, progress=False)
    with pytest.raises(ProcessingError, match="Content-Range"):
        convert(verify=True)
    assert all(NoSuffixes.store.get(name) is data for name, data in before.items() if "/c/" in name)
