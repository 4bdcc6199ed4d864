"""A web server that is busy now and then or for ever, or that knows no ranges."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.http import HTTPFileSystem

import slidefusion as sf
from slidefusion.errors import ProcessingError, SlidefusionWarning
from slidefusion.omezarr import remote


class _Busy(SimpleHTTPRequestHandler):
    """Serves files and, if it knows them, ranges; some requests for data get a 503."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if "/c/" in self.path and self.server.is_busy(self.path, self.command):
            self._reply(503, b"busy")
        elif not path.is_file():
            self._reply(404, b"nothing here")
        else:
            data = path.read_bytes()
            found = re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if found is None or not self.server.ranged:
                self._reply(200, data)
                return
            first, last = found.groups()
            start = int(first) if first else len(data) - int(last)
            stop = int(last) + 1 if first and last else len(data)
            self._reply(206, data[start:stop], f"bytes {start}-{stop - 1}/{len(data)}")

    do_HEAD = do_GET

    def _reply(self, status: int, body: bytes, part: str = "") -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.lock, self.asked, self.busy, self.ranged = threading.Lock(), 0, range(0), True
        self.closed, self.closing = "nothing", ("GET",)
        super().__init__(("127.0.0.1", 0), lambda *args: _Busy(*args, directory=str(folder)))

    def is_busy(self, path: str, command: str) -> bool:
        """With the first GETs, by their number, and for good with the part that is closed."""
        with self.lock:
            self.asked += command == "GET"
            now = command == "GET" and self.asked - 1 in self.busy
            return now or (command in self.closing and self.closed in path)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(stack: Path) -> Iterator[_Server]:
    made = _Server(stack.parent)
    serving = threading.Thread(target=made.serve_forever)
    serving.start()
    yield made
    remote.close_connections()
    HTTPFileSystem.clear_instance_cache()  # it does not connect a second time
    made.shutdown()
    made.server_close()
    serving.join()


def test_a_busy_server_is_asked_again_before_the_first_region(
    server: _Server, stack: Path, tmp_path: Path
) -> None:
    whole = sf.fuse(stack, "lpp", out=tmp_path / "whole.zarr", progress=False).values
    url = f"{server.url}/{stack.name}"
    for retries, match in ((0, "503"), (1, r"\(tried 2 times\).*503")):
        server.asked, server.busy = 0, range(10)
        with pytest.raises(ProcessingError, match=f"looking at the slide, .*{match}"):
            sf.fuse(url, "lpp", out=tmp_path / "none.zarr", progress=False, retries=retries)
    assert not (tmp_path / "none.zarr").exists()
    server.asked, server.busy = 0, range(0, 120, 23)
    slide = sf.fuse(url, "lpp", out=tmp_path / "slide.zarr", progress=False, retries=12)
    assert server.asked > 120 and np.array_equal(slide.values, whole)


def test_a_server_that_knows_no_ranges_costs_whole_shards(
    server: _Server, stack: Path, tmp_path: Path
) -> None:
    whole = sf.fuse(stack, "lpp", out=tmp_path / "whole.zarr", progress=False).values
    server.ranged = False
    url = f"{server.url}/{stack.name}"
    with pytest.warns(SlidefusionWarning, match=f"{server.url} sends whole files") as told:
        slide = sf.fuse(url, "lpp", out=tmp_path / "slide.zarr", progress=False, retries=0)
    assert len(told) == 1 and np.array_equal(slide.values, whole)
    assert sf.verify(url, progress=False) == []


@pytest.mark.parametrize("closing", [("GET",), ("GET", "HEAD")])
def test_verify_names_the_place_that_it_could_not_read(
    server: _Server, stack: Path, closing: tuple[str, ...]
) -> None:
    server.closing = closing
    url = f"{server.url}/{stack.name}"
    assert sf.verify(url, progress=False) == []
    server.closed = "/0/c/0/1/2/3"
    with pytest.raises(ProcessingError) as caught:
        sf.verify(url, progress=False)
    text = str(caught.value)
    # Blocks of 2048 px: the whole plane.
    assert f"verify, array 0, plane 1, y 0-1024, x 0-1024 of {url} (tried 4 times): " in text
    assert "503" in text and "whether it is damaged is not known" in text and "run again" in text
