"""Stores at URLs that cannot be opened: is it the place, or what lies there?"""

from __future__ import annotations

import os
import subprocess
import sys

import fsspec
import pytest
from zarr.storage import StorePath

from slidefusion.errors import ProcessingError, StackError
from slidefusion.omezarr.remote import url_exists, url_store
from slidefusion.omezarr.store import open_group


def test_metadata_at_a_url_that_is_damaged() -> None:
    fsspec.filesystem("memory").pipe_file(
        "/remote17/stack.zarr/zarr.json", b'{"zarr_format": 3, "no'
    )
    with pytest.raises(StackError, match=r"the Zarr metadata of memory://remote17.* is damaged"):
        open_group("memory://remote17/stack.zarr")


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
