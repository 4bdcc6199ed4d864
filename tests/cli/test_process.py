"""The command line as a process of its own: start-up, exit codes, signals, pipes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Runner

HEAVY = ("dask", "distributed", "numba", "numpy", "tifffile", "torch", "xarray", "zarr")


def command(*args: object) -> list[str]:
    return [sys.executable, "-c", "from slidefusion.cli import main; raise SystemExit(main())"] + [
        str(arg) for arg in args
    ]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("args", [["--help"], ["fuse", "--help"], ["--version"], ["fusers"]])
def test_start_up_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from slidefusion.cli import main; code = main(sys.argv[1:]); "
        f"print('heavy:', [m for m in {HEAVY} if m in sys.modules]); raise SystemExit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0
    found = ended.stdout.rpartition("heavy:")[2].strip()
    # Listing fusers reads the Fuser protocol, which names NumPy's types.
    assert found == ("['numpy']" if args == ["fusers"] else "[]")


def test_the_console_script_is_installed() -> None:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="console_scripts", name="slidefusion")
    assert entry.value == "slidefusion.cli:main"


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    ended = run("fuse", tmp_path / "nowhere.zarr", "--out", tmp_path / "out.zarr")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: there is nothing at ")
    assert ended.stderr.count("\n") == 1
    assert run("no-such-command").returncode == 2
    assert run("info").returncode == 2


def test_a_closed_pipe_is_no_error(kept_stack: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            command("info", kept_stack), stdout=writing, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_another_broken_pipe_is_an_error() -> None:
    code = """if True:
    from slidefusion.cli import run
    def lose(args):
        raise BrokenPipeError(32, "Broken pipe")
    run._invoke = lose
    raise SystemExit(run.run(["info"]))"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1 and "Broken pipe" in ended.stderr


def test_nothing_but_the_interruption_is_told() -> None:
    # Ctrl-C comes while zarr's own thread works: one task of it fails later, one never ends.
    code = """if True:
        import asyncio, os, signal, sys, threading
        import slidefusion.cli.run as run
        from zarr.core.sync import sync

        async def fail():
            raise FileExistsError("zarr.json")

        async def work():
            failing = asyncio.ensure_future(fail())
            await asyncio.sleep(3600)
            await failing

        def invoke(args):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            sync(work())

        run._invoke = invoke
        sys.exit(run.run([]))
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        130,
        "",
        "interrupted; run the same command again to continue\n",
    )


def test_nothing_but_the_error_is_told() -> None:
    # Of requests made together one fails, and the others are not ended, in loops of two libraries.
    code = """if True:
        import asyncio, contextvars, sys
        import fsspec.asyn, zarr.core.sync
        import slidefusion.cli.run as run

        inside = contextvars.ContextVar("inside")

        async def fail():
            await asyncio.sleep(0.01)
            raise ConnectionError("reset")

        async def answer():  # as botocore does
            token = inside.set(True)
            try:
                await asyncio.sleep(3600)
            finally:
                inside.reset(token)

        async def ask():
            await asyncio.gather(answer(), fail(), answer(), answer())

        def invoke(args):
            try:
                zarr.core.sync.sync(ask())
            except ConnectionError:
                fsspec.asyn.sync(fsspec.asyn.get_loop(), ask)

        run._invoke = invoke
        sys.exit(run.run([]))
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    expected = "error: internal: ConnectionError: reset (--debug shows where)\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", expected)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_is_described_and_continues(
    sent: signal.Signals, cli: Runner, tmp_path: Path
) -> None:
    out = tmp_path / "phantom.zarr"
    args = ("phantom", out, "--size", 512, 1536, "--planes", 2)
    process = subprocess.Popen(command(*args), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "phantom-depth.zarr" / "2").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        130,
        "interrupted; run the same command again to continue\n",
    )
    described = json.loads(cli("info", out, "--json").out)
    assert described["complete"] is False
    assert described["regions"]["total"] == 3
    assert "INCOMPLETE" in cli("info", out).out
    ended = cli("fuse", out, "--out", tmp_path / "fused.zarr")
    assert ended.code == 2 and "incomplete" in ended.error

    assert cli(*args).code == 0
    described = json.loads(cli("info", out, "--json").out)
    assert described["complete"] is True and described["regions"] is None


@pytest.mark.parametrize("before", [(), ("--log", "info"), ("--log=info",)])
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("train", "run the same command again to go on from the last checkpoint"),
        ("evaluate", "nothing is kept but the phantoms"),
        ("verify", "nothing was changed"),
        ("fuse", "run the same command again to continue"),
    ],
)
def test_what_becomes_of_the_work_is_said(
    before: tuple[str, ...],
    name: str,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from slidefusion.cli import run

    def interrupted(args: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_invoke", interrupted)
    monkeypatch.setattr(run, "_say_nothing_at_exit", lambda: None)
    assert run.run([*before, name, "info", "--out", "x"]) == run.INTERRUPTED
    assert capsys.readouterr().err.startswith(f"interrupted; {ending}")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_from_the_start(
    kept_stack: Path, tmp_path: Path, closed: str
) -> None:
    run_it = shlex.join(command("fuse", kept_stack, "lpp", "--out", tmp_path / "a.zarr"))
    ended = subprocess.run(["sh", "-c", f"{run_it} {closed}"], capture_output=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (tmp_path / "a.zarr" / "zarr.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_named(kept_stack: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command("info", kept_stack), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: standard output cannot be written to: No space left")
