"""Opens hostile input through every door, each input in a child process of its own.

Run as a program: reads one folder a line, answers one line of JSON each. It loads the package once
and forks for every input, so that a child costs milliseconds, and its end, whatever that is, harms
nothing else. A folder holds ``in`` (a store or a file); ``out`` is made in it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 90
"""Time for all doors of one input, on a machine that is busy with other things."""
CPU_SECONDS = 20
"""Time that they may compute, far more than they do."""
MEMORY_BYTES = 4 * 2**30
"""Address space that a child may take beyond what the package itself takes."""


def _open_stack(given: str, out: Path) -> None:
    import slidefusion as sf

    stack = sf.open_stack(given)
    str(stack.coords)
    stack.isel(y=slice(0, 40), x=slice(0, 40)).compute(scheduler="synchronous")


def _fuse(given: str, out: Path) -> None:
    import slidefusion as sf

    slide = sf.fuse(given, out=out / "fused.zarr", chunks=64, retries=0, progress=False)
    slide.compute(scheduler="synchronous")


def _convert(given: str, out: Path) -> None:
    import slidefusion as sf

    where = sf.convert(
        given,
        out / "converted.zarr",
        pixel_size_um=0.25,
        z_step_um=1,
        retries=0,
        shard_px=64,
        chunk_px=32,
        progress=False,
    )
    sf.open_stack(where).compute(scheduler="synchronous")


def _describe(given: str, out: Path) -> None:
    from slidefusion.verbs.info import describe

    json.dumps(describe(given))


def _command(*args: str) -> None:
    """One line that says what is wrong, the right exit code, and no traceback."""
    from slidefusion.cli import main
    from slidefusion.errors import SlidefusionError

    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        code = main(list(args))
    lines = [line for line in said.getvalue().splitlines() if line]
    if code == 0 and not lines:
        return
    assert code in (1, 2), f"exit code {code}, {lines}"
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: "), lines
    assert not lines[0].startswith("error: internal"), lines
    assert "Traceback" not in printed.getvalue(), printed.getvalue()
    raise SlidefusionError(lines[0])


DOORS: dict[str, Callable[[str, Path], None]] = {
    "open_stack": _open_stack,
    "fuse": _fuse,
    "convert": _convert,
    "describe": _describe,
    "info": lambda given, out: _command("info", given),
    "verify": lambda given, out: _command("verify", given, "--no-progress"),
}


def _looks_complete(out: Path) -> list[str]:
    """What lies in ``out`` that somebody may take for a finished image."""
    found = []
    for store in out.iterdir():
        try:
            attributes = json.loads((store / "zarr.json").read_bytes())["attributes"]
        except FileNotFoundError:
            continue
        if "ome" in attributes or attributes.get("slidefusion", {}).get("complete") is not False:
            found.append(store.name)
    return found


def _through(door: str, given: str, out: Path) -> dict[str, Any]:
    """How one door answers: ``ok``, ``error`` (one of ours), or ``wrong``."""
    from slidefusion.errors import SlidefusionError

    began, before = time.perf_counter(), set(_looks_complete(out))
    answer, text = "ok", ""
    try:
        DOORS[door](given, out)
    except SlidefusionError as error:
        answer, text = "error", f"{type(error).__name__}: {error}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-6:]
        shown = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(where))
        answer, text = "wrong", f"{type(error).__name__}: {error} [{shown}]"
    if answer != "ok" and (left := set(_looks_complete(out)) - before):
        answer, text = "wrong", f"{sorted(left)} looks complete, after: {text}"
    return {"answer": answer, "text": text, "seconds": time.perf_counter() - began}


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def _child(folder: Path, answer: int) -> None:
    os.chdir(folder)
    out = folder / "out"
    out.mkdir()
    sink = os.open(folder / "stderr.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(sink, 2)
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=2)  # type: ignore[arg-type]
    allowed = _status_bytes("VmSize") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    before = _status_bytes("VmRSS")
    given = next(str(p) for p in sorted(folder.iterdir()) if p.name.startswith("in"))
    doors = {}
    for door in DOORS:
        doors[door] = _through(door, given, out)
    grown = _status_bytes("VmHWM") - before
    os.write(answer, json.dumps({"doors": doors, "grown_bytes": grown}).encode())


def _watch(folder: Path) -> dict[str, Any]:
    """Run the child for ``folder`` and say how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            _child(folder, writing)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)
    os.close(writing)
    text, until = b"", time.monotonic() + SECONDS + 10
    while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(reading, 65536)
        if not part:
            break
        text += part
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if not text:
        said = (folder / "stderr.txt").read_text(errors="replace")[-3000:]
        return {"died": f"exit code {os.waitstatus_to_exitcode(status)}: {said}"}
    return dict(json.loads(text))


def _warm() -> None:
    """Load and compile what all children need, without starting a thread."""
    import imagecodecs  # noqa: F401
    import numpy as np
    import tifffile  # noqa: F401
    import zarrs  # noqa: F401

    import slidefusion as sf
    from slidefusion import write_slide  # noqa: F401
    from slidefusion.cli import main
    from slidefusion.readers import images, ngff, slides, tiff  # noqa: F401
    from slidefusion.verbs import convert, info, verify  # noqa: F401

    stack = np.zeros((1, 3, 40, 50), np.uint8)
    stack[0, 1, 20] = 200
    sf.fuse(stack).compute(scheduler="synchronous")
    with contextlib.redirect_stdout(io.StringIO()):
        main(["verify", "--help"])


def main() -> None:
    """Answer for one folder after the other until there is no more input."""
    _warm()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_watch(Path(line.rstrip("\n")))), flush=True)


if __name__ == "__main__":
    main()
