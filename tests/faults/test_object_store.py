"""An object store that answers late, with errors, or not at all; two runs and resuming there."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.errors import OutputError, PlaceError, ProcessingError, StackError
from slidefusion.omezarr import lock as locks
from slidefusion.omezarr.journal import JOURNAL_NAME
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.omezarr.place import delete_store

from .workload import Brightest, Pattern

SMALL = Pattern(512, 512, 2)
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


class Faulty(ThreadingHTTPServer):
    """A proxy before a store that harms some answers; nothing while ``harm`` is None."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.behind = (host, port)
        self.harm: Callable[[str, str], int | float | None] | None = None
        self.counts: dict[int | float, int] = {}
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet: the second would wait for an acknowledgement
    server: Faulty

    def _answer(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        body = self._body()
        harm = self.server.harm and self.server.harm(self.command, self.path)
        if harm:
            self.server.counts[harm] = self.server.counts.get(harm, 0) + 1
        if harm == -1:  # no answer at all
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if isinstance(harm, int) and harm >= 400:
            code = {503: "SlowDown", 500: "InternalError", 403: "AccessDenied"}[harm]
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self._reply(harm, [("Content-Type", "application/xml")], text)
            return
        if isinstance(harm, float):
            time.sleep(harm)
        connection = HTTPConnection(*self.server.behind, timeout=30)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            headers["Host"] = self.headers["Host"]
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            if harm == -2:  # it is done, but nobody is told
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP]
            length = answer.getheader("Content-Length")
            self._reply(answer.status, kept, answer.read(), length)
        finally:
            connection.close()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer


@pytest.fixture(scope="module")
def faulty(s3_server: tuple[str, int]) -> Iterator[Faulty]:
    import boto3

    proxy = Faulty(*s3_server)
    serving = threading.Thread(target=proxy.serve_forever, daemon=True)
    serving.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret-for-anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        client = boto3.client("s3")
        client.create_bucket(Bucket="slides")
        client.close()
        yield proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def harmed(faulty: Faulty) -> Iterator[Faulty]:
    faulty.counts.clear()
    yield faulty
    faulty.harm = None


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """None between s3fs's own attempts."""
    import s3fs.core

    async def at_once(*_: object) -> None:
        """In place of them."""

    monkeypatch.setattr(s3fs.core.asyncio, "sleep", at_once)


def filesystem() -> Any:
    import s3fs

    found = s3fs.S3FileSystem()
    found.invalidate_cache()
    return found


def objects(where: str) -> dict[str, bytes]:
    found = filesystem()
    root = where.removeprefix("s3://")
    return {path.removeprefix(root): found.cat_file(path) for path in found.find(root)}


def convert(where: str, **more: Any) -> None:
    sf.convert(more.pop("source", SMALL), where, shard_px=256, chunk_px=64, progress=False, **more)


def sometimes(seed: int, share: float, *harms: int | float) -> Callable[[str, str], Any]:
    """Harms that share of the requests for data, in one of these ways."""
    choose = random.Random(seed)

    def harm(method: str, path: str) -> int | float | None:
        if method in ("GET", "PUT") and "/c/" in path and choose.random() < share:
            return choose.choice(harms)
        return None

    return harm


@pytest.fixture(scope="module")
def whole(faulty: Faulty) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The objects of an undisturbed stack and slide."""
    convert("s3://slides/whole/stack.zarr")
    fuse("s3://slides/whole/stack.zarr", "s3://slides/whole/slide.zarr")
    return objects("s3://slides/whole/stack.zarr"), objects("s3://slides/whole/slide.zarr")


def fuse(stack: str, out: str, **more: Any) -> Any:
    return sf.fuse(stack, Brightest(), out=out, chunks=256, progress=False, **more)


def data_of(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if "/c/" in name}


def test_errors_throttling_and_silence_end_in_the_same_bytes(
    harmed: Faulty, whole: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    harmed.harm = sometimes(3, 0.15, 500, 503, -1, 0.3)
    convert("s3://slides/a/stack.zarr", retries=6)
    fuse("s3://slides/a/stack.zarr", "s3://slides/a/slide.zarr", retries=6)
    assert len(harmed.counts) == 4
    harmed.harm = None
    assert objects("s3://slides/a/stack.zarr") == whole[0]
    assert data_of(objects("s3://slides/a/slide.zarr")) == data_of(whole[1])
    slide = sf.open_slide("s3://slides/a/slide.zarr").values
    assert np.array_equal(slide, sf.open_stack("s3://slides/a/stack.zarr").values.max(axis=1))
    assert sf.verify("s3://slides/a/slide.zarr", progress=False) == []


def test_a_store_that_refuses_one_shard_for_ever(
    harmed: Faulty,
    whole: tuple[dict[str, bytes], dict[str, bytes]],
    no_pauses: None,
) -> None:
    harmed.harm = lambda method, path: 503 if method == "PUT" and "/0/c/0/1/1/0" in path else None
    with pytest.raises(ProcessingError) as caught:
        convert("s3://slides/b/stack.zarr", retries=1)
    text = str(caught.value)
    assert "convert, region y 256-512, x 0-256 of plane 1 (tried 2 times)" in text
    assert "cannot write level 0, y 256, x 0 of s3://slides/b/stack.zarr" in text
    assert "the other 7 of 8 are finished" in text
    harmed.harm = None
    with pytest.raises(StackError, match="incomplete"):
        sf.open_stack("s3://slides/b/stack.zarr")
    found = filesystem()
    found.rm_file("slides/b/stack.zarr/0/c/0/0/0/1")  # and one that was noted is lost
    convert("s3://slides/b/stack.zarr")
    assert objects("s3://slides/b/stack.zarr") == whole[0]


def test_two_runs_in_a_bucket(
    harmed: Faulty,
    whole: tuple[dict[str, bytes], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = "s3://slides/c/stack.zarr"
    slow = threading.Thread(
        target=convert, args=(where,), kwargs={"source": Pattern(512, 512, 2, seconds=0.2)}
    )
    slow.start()
    store = filesystem()
    while not store.exists(f"slides/c/stack.zarr/{JOURNAL_NAME}"):
        time.sleep(0.02)
    with pytest.raises(OutputError, match="another run is writing s3://slides/c"):
        convert(where)
    slow.join()
    assert objects(where) == whole[0]

    # One that a dead machine left is taken over.
    monkeypatch.setattr(locks, "_BEAT_SECONDS", 0.05)
    left = {"host": "gone", "machine": "gone 1", "pid": 1, "started": "1", "beat": 3}
    other = "s3://slides/d/stack.zarr"
    store.pipe_file(f"slides/d/stack.zarr/{LOCK_NAME}", json.dumps(left).encode())
    convert(other)
    assert objects(other) == whole[0]


def test_damage_in_a_bucket_is_found_and_repaired(
    faulty: Faulty, whole: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    where = "s3://slides/e/stack.zarr"
    convert(where)
    store = filesystem()
    store.rm_file("slides/e/stack.zarr/0/c/0/1/0/1")
    data = store.cat_file("slides/e/stack.zarr/0/c/0/0/1/1")
    store.pipe_file("slides/e/stack.zarr/0/c/0/0/1/1", data[:-20])
    reasons = [str(damage) for damage in sf.verify(where, progress=False)]
    assert any("is missing" in reason for reason in reasons)
    assert any("plane 0, y 256-512, x 256-512" in reason for reason in reasons)
    convert(where, verify=True)
    assert objects(where) == whole[0]
    convert(where, overwrite=True)
    assert objects(where) == whole[0]


def test_a_lock_whose_answer_is_lost_is_had(
    harmed: Faulty, whole: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    left = [-2]
    harmed.harm = lambda method, path: (
        left.pop() if method == "PUT" and LOCK_NAME in path and left else None
    )
    convert("s3://slides/g/stack.zarr")
    assert harmed.counts == {-2: 1}
    assert objects("s3://slides/g/stack.zarr") == whole[0]


def test_the_lock_of_an_ended_run_of_this_process_is_nobodys(
    harmed: Faulty, whole: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    def harm(method: str, path: str) -> int | None:
        stays = method == "DELETE" and LOCK_NAME in path
        return 403 if stays or (method == "PUT" and "/0/c/0/1/1/0" in path) else None

    where = "s3://slides/h/stack.zarr"
    harmed.harm = harm
    with pytest.raises(ProcessingError, match="injected"):
        convert(where, retries=0)
    assert filesystem().exists(f"{where}/{LOCK_NAME}")
    harmed.harm = None
    convert(where)
    assert objects(where) == whole[0]


def test_where_nothing_may_be_deleted_an_output_is_complete_all_the_same(
    harmed: Faulty, whole: tuple[dict[str, bytes], dict[str, bytes]], caplog: Any
) -> None:
    where = "s3://slides/i/stack.zarr"
    harmed.harm = lambda method, path: 403 if method == "DELETE" else None
    convert(where)
    assert "is complete, but its slidefusion-run.json cannot be deleted" in caplog.text
    left = {f"/{JOURNAL_NAME}", f"/{LOCK_NAME}"}
    assert {k: v for k, v in objects(where).items() if k not in left} == whole[0]
    with pytest.raises(OutputError, match="is already complete"):
        convert(where)


@pytest.mark.parametrize("status", [403, 503])
def test_a_root_that_cannot_be_read_is_not_somebody_elses(
    harmed: Faulty,
    whole: tuple[dict[str, bytes], dict[str, bytes]],
    no_pauses: None,
    status: int,
) -> None:
    where = f"s3://slides/j{status}/stack.zarr"
    convert(where)
    harmed.harm = lambda method, path: (
        status if method == "GET" and path.split("?")[0].endswith("stack.zarr/zarr.json") else None
    )
    for overwrite in (False, True):
        with pytest.raises(PlaceError, match=r"cannot be reached: .*nothing was written"):
            convert(where, overwrite=overwrite)
    assert harmed.counts
    harmed.harm = None
    assert objects(where) == whole[0]


def test_what_may_not_be_read_is_not_damaged(
    harmed: Faulty, whole: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    where = "s3://slides/k/stack.zarr"
    convert(where)
    harmed.harm = lambda method, path: 403 if method == "GET" and "/0/c/0/1/1/0" in path else None
    for again in (lambda: sf.verify(where, progress=False), lambda: convert(where, verify=True)):
        with pytest.raises(ProcessingError, match="PermissionError"):
            again()
    harmed.harm = None
    assert objects(where) == whole[0]


@pytest.mark.parametrize(("name", "like"), [("br[1]", "br1"), ("s*", "s1"), ("q?", "q1")])
def test_what_is_deleted_is_what_is_named_and_nothing_that_is_like_it(
    faulty: Faulty, name: str, like: str
) -> None:
    store = filesystem()
    for folder in (name, like):
        for path in ("zarr.json", "0/zarr.json", "0/c/0/0", "0/c/1[2]/0", "labels/a*/zarr.json"):
            store.pipe_file(f"slides/l/{folder}/a.zarr/{path}", path.encode())
    other = objects(f"s3://slides/l/{like}/a.zarr")
    delete_store(f"s3://slides/l/{name}/a.zarr")
    assert objects(f"s3://slides/l/{name}") == {}
    assert objects(f"s3://slides/l/{like}/a.zarr") == other and len(other) == 5


def test_a_store_that_is_gone_is_one_error(stack: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-for-anything",
        "AWS_MAX_ATTEMPTS": "1",
    }
    code = "from slidefusion.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, "convert", str(stack), "s3://slides/f/stack.zarr"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "s3://slides/f/stack.zarr" in line and "nothing was written" in line
    assert "Traceback" not in ended.stderr and "not-a-secret" not in ended.stderr
