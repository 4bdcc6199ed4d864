"""A region that fails once, always, or for a reason that does not pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import slidefusion as sf
from slidefusion.engine import read_plane
from slidefusion.errors import ProcessingError, StackError
from slidefusion.geometry import Window
from slidefusion.omezarr.journal import Journal
from slidefusion.tasks.outcomes import is_out_of_reach, may_pass

from .conftest import Files, assert_same, convert, files_of, fuse
from .workload import Pattern, noted

BROKEN = ((256, 512), (768, 0))


def test_what_fails_once_is_tried_again(tmp_path: Path, whole_stack: Files) -> None:
    notes, report = tmp_path / "notes", tmp_path / "report.json"
    source = Pattern(failing=BROKEN, times=2, notes=str(notes))
    convert(tmp_path / "stack.zarr", source, report=report)
    assert_same(tmp_path / "stack.zarr", whole_stack)
    assert len(noted(notes, "fail-256-512")) == 3
    said = json.loads(report.read_text())
    assert said["state"] == "complete" and said["failures"] == []
    assert said["regions"] == {
        "total": 32,
        "finished_before": 0,
        "finished": 32,
        "failed": 0,
        "retries": 4,
    }
    assert said["bytes"]["read"] == said["bytes"]["written"] == 2 * 1024 * 1024
    assert said["bytes"]["stored"] == sum(
        len(data) for name, data in whole_stack.items() if "/c/" in name and name[0] in "01"
    )
    assert said["task_seconds"]["all"] >= said["task_seconds"]["read"] > 0
    (worker,) = said["workers"].values()
    assert worker["peak_memory_bytes"] > 10**7 and worker["regions"] == 32


def test_what_fails_always_is_named_after_the_others_are_finished(
    tmp_path: Path, whole_stack: Files
) -> None:
    notes, out, report = tmp_path / "notes", tmp_path / "stack.zarr", tmp_path / "report.json"
    source = Pattern(failing=BROKEN, times=100, notes=str(notes))
    with pytest.raises(ProcessingError) as caught:
        convert(out, source, retries=1, report=report)
    text = str(caught.value)
    for part in (
        "convert, region y 256-512, x 512-768 of plane 0 (tried 2 times): "
        "OSError: [Errno 5] Input/output error: 'slide.file'",
        "1 more failed: convert, region y 768-1024, x 0-256",
        "the other 30 of 32 are finished",
    ):
        assert part in text
    assert Journal.stored_progress(str(out)) == (30, 32)
    with pytest.raises(StackError, match="is incomplete"):
        sf.open_stack(out)
    said = json.loads(report.read_text())
    assert said["state"] == "failed" and len(said["failures"]) == 2

    convert(out, Pattern(notes=str(tmp_path / "again")))  # repaired: only those two are read
    assert_same(out, whole_stack)
    assert len(list((tmp_path / "again").iterdir())) == 2


def test_a_bug_is_not_tried_again(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    source = Pattern(failing=BROKEN[:1], times=100, kind="bug", notes=str(notes))
    with pytest.raises(ProcessingError, match=r"ValueError: a bug .*the other 31 of 32"):
        convert(tmp_path / "stack.zarr", source)
    assert len(noted(notes, "fail-256-512")) == 1


class Leaving(Pattern):
    """A reader that takes the process for its own."""

    def read(self, z: int, window: Window) -> np.ndarray:
        if (window.y, window.x) == (256, 512):
            raise SystemExit(0)
        return super().read(z, window)


def test_a_reader_that_ends_the_process_fails_its_region(tmp_path: Path) -> None:
    with pytest.raises(ProcessingError, match=r"plane 0: SystemExit: 0 .*the other 30 of 32 are"):
        convert(tmp_path / "stack.zarr", Leaving())
    source = Leaving()
    with pytest.raises(ProcessingError, match="cannot read plane 1, y 256-512, x 512-768"):
        read_plane(source, 1, Window(256, 512, 256, 256))


def test_when_every_region_fails_it_ends_early(tmp_path: Path) -> None:
    size = 256 * 10
    every = tuple((y, x) for y in range(0, size, 256) for x in range(0, size, 256))
    source = Pattern(size, size, 1, failing=every, times=99, kind="bug", notes=str(tmp_path / "n"))
    with pytest.raises(ProcessingError, match=r"0 of 100 were finished, .* stopped early"):
        convert(tmp_path / "stack.zarr", source)


def test_a_truncated_chunk_spoils_its_regions_only(stack: Path, tmp_path: Path) -> None:
    shutil.copytree(stack, tmp_path / "stack.zarr")
    chunk = tmp_path / "stack.zarr" / "0" / "c" / "0" / "1" / "3" / "3"
    data = chunk.read_bytes()
    undisturbed = tmp_path / "undisturbed" / "slide.zarr"
    fuse(tmp_path / "stack.zarr", undisturbed)
    for damaged in (data[: len(data) // 2], data[:-8] + b"\0" * 8, b""):
        chunk.write_bytes(damaged)
        out = tmp_path / str(len(damaged)) / "slide.zarr"
        with pytest.raises(ProcessingError) as caught:
            fuse(tmp_path / "stack.zarr", out)
        text = str(caught.value)
        assert "fuse-brightest, region y 512-768, x 512-768: cannot read plane 1, y 504-776" in text
        assert f"{tmp_path}/stack.zarr" in text and "damaged" in text
        assert "3 more failed" in text and "the other 12 of 16 are finished" in text
        chunk.write_bytes(data)
        fuse(tmp_path / "stack.zarr", out)
        assert_same(out, files_of(undisturbed))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OSError(5, "I/O"), "retry"),
        (ConnectionResetError("peer"), "retry"),
        (TimeoutError(), "retry"),
        (MemoryError(), "retry"),
        (RuntimeError("write: Input/output error (os error 5)"), "retry"),
        (OSError(28, "full"), "stop"),
        (RuntimeError("No space left on device (os error 28)"), "stop"),
        (FileNotFoundError(2, "gone"), "fail"),
        (PermissionError(13, "no"), "fail"),
        (RuntimeError("the checksum is invalid"), "fail"),
        (StackError("NaN"), "fail"),
        (KeyError("x"), "fail"),
    ],
)
def test_which_errors_may_pass(error: Exception, verdict: str) -> None:
    assert may_pass(error) == verdict
    wrapped = ProcessingError("cannot read")
    wrapped.__cause__ = error
    if not isinstance(error, StackError):
        assert may_pass(wrapped) == verdict


def test_answers_of_stores_are_judged_by_their_status() -> None:
    from botocore.exceptions import ClientError, EndpointConnectionError

    def answer(status: int) -> ClientError:
        return ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")

    assert [may_pass(answer(s)) for s in (500, 503, 429, 403, 404)] == [
        "retry",
        "retry",
        "retry",
        "fail",
        "fail",
    ]
    assert may_pass(EndpointConnectionError(endpoint_url="http://x")) == "retry"


def test_what_is_out_of_reach_is_not_damaged() -> None:
    from requests.exceptions import ProxyError

    refused = OSError("Forbidden: bucket/a.zarr/0/c/0/0/0")  # as gcsfs says it, without a number
    frame = OSError("incomplete frame")  # as zarrs says of a damaged local file
    assert is_out_of_reach(refused, remote=True) and not is_out_of_reach(frame)
    for error in (PermissionError("Access Denied"), ProxyError(), OSError(22, "Bad Request")):
        assert is_out_of_reach(error) and is_out_of_reach(error, remote=True)
    for error in (ValueError("checksum"), FileNotFoundError("a"), IsADirectoryError(21, "a")):
        assert not is_out_of_reach(error, remote=True)


def test_the_pattern_is_the_pattern(stack: Path) -> None:
    window = Window(100, 200, 300, 400)
    got = sf.open_stack(stack).values[:, 1, 100:400, 200:600]
    np.testing.assert_array_equal(got, Pattern().read(1, window))
