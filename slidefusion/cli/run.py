"""Running a command: every way it can end becomes one line and one exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import typer

from slidefusion.errors import SlidefusionError, SlidefusionWarning

__all__ = ["FAILURE", "INTERRUPTED", "USAGE", "run"]

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
_AFTER_INTERRUPTION = {
    "evaluate": "nothing is kept but the phantoms in --keep",
    "fusers": "nothing was written",
    "info": "nothing was written",
    "plan": "nothing was written",
    "verify": "nothing was changed",
    "train": "run the same command again to go on from the last checkpoint (one every two minutes)",
}
"""What becomes of the work of commands that cannot just be continued."""
_WITH_A_VALUE = ("--log",)
"""Options that may stand before the command and take a value of their own."""
_JOINERS = "\u200c\u200d"  # within words of some scripts, and emoji
_PIPE_CLOSED = 0  # the reader (``| head``) has what it wanted


def run(args: list[str]) -> int:
    """Run ``args`` and return the exit code.

    An error prints one line, ``error: …``, on standard error; ``--debug`` anywhere before ``--``
    prints its traceback first.
    """
    end = args.index("--") if "--" in args else len(args)
    debug = "--debug" in args[:end]
    args = [arg for k, arg in enumerate(args) if arg != "--debug" or k >= end]
    # What zarr had begun when Ctrl-C came goes with the process; Python need not tell the user.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.stdout, sys.stderr = _opened(sys.stdout), _opened(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a µ on a terminal that knows ASCII only
            stream.reconfigure(errors="backslashreplace")
    try:
        with _ended_as_by_ctrl_c(), _warnings_as_lines():
            code = _invoke(args or ["--help"])
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, typer.Abort):
        _say_nothing_at_exit()
        ending = _AFTER_INTERRUPTION.get(_command(args), "run the same command again to continue")
        print(f"interrupted; {ending}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            _forget_output()
            return _PIPE_CLOSED
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and (reason := _output_fault()):
            _forget_output()
            print(f"error: standard output cannot be written to: {reason}", file=sys.stderr)
            return FAILURE
        if debug:
            import traceback

            traceback.print_exc()
        message, code = _explain(error)
        print(f"error: {_one_line(message)}", file=sys.stderr)
        return code
    finally:
        _end_requests()  # also of what failed once, and was had at the next attempt


def _opened(stream: TextIO | None) -> TextIO:
    """A stream, or one for what nobody can read, where it was closed by whoever began this."""
    return stream or Path(os.devnull).open("w", encoding="utf-8")


def _output_fault() -> str:
    """Why standard output takes nothing more; empty if it does. An empty line tells."""
    try:
        print(flush=True)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _forget_output() -> None:
    """Python flushes standard output once more at exit, and would complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(args: list[str]) -> str:
    """Which command these arguments run: what is no option, nor the value of one, comes first."""
    values = iter(args)
    for arg in values:
        if arg in _WITH_A_VALUE:
            next(values, None)
        elif not arg.startswith("-"):
            return arg
    return ""


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM, which a cluster's time limit sends, leaves nothing behind either.

    A second one ends the process at once.
    """

    def interrupt(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    # The main thread alone may do this; and who ignores the signal, or has a use for it, may.
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Advice of ours is one line, ``warning: …``, without the place in the code that gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SlidefusionWarning)
        show = warnings.showwarning

        def as_line(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SlidefusionWarning):
                print(f"warning: {_one_line(str(message))}", file=sys.stderr)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = as_line
        yield


def _output_is_closed() -> bool:
    """Whether it is standard output that nobody reads, and not another pipe or socket."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll here, or no file behind it
        return True


def _end_requests() -> None:
    """End what stores were asked for and nobody wants any more, which would tell of it at exit."""
    if "fsspec" in sys.modules or "zarr" in sys.modules:
        from slidefusion.omezarr.pending import end_pending

        with contextlib.suppress(KeyboardInterrupt):  # a second one
            end_pending()


def _say_nothing_at_exit() -> None:
    """Let what zarr has begun go with the process; it would tell of each task that did not end."""
    import logging

    for name in ("asyncio", "zarr.core.sync"):
        logging.getLogger(name).disabled = True


def _invoke(args: list[str]) -> int:
    from slidefusion.cli.app import app

    command = typer.main.get_command(app)
    try:
        with command.make_context("slidefusion", args) as context:
            command.invoke(context)
    except typer.Exit as done:  # --help, --version
        return int(done.exit_code)
    return 0


def _explain(error: Exception) -> tuple[str, int]:
    """Message and exit code of an exception."""
    if isinstance(error, SlidefusionError):
        return str(error), error.exit_code
    if hasattr(error, "format_message"):  # what typer raises for a wrong command line
        message = error.format_message()
        return f"{message}{_given(error, message)}{_help_hint(error)}", USAGE
    if isinstance(error, MemoryError):
        remedy = "run fewer tasks at a time (DASK_NUM_WORKERS=1), or smaller ones (fuse --chunks)"
        return f"out of memory: {remedy}", FAILURE
    return f"internal: {type(error).__name__}: {error} (--debug shows where)", FAILURE


def _one_line(message: str) -> str:
    """Without line breaks, and with escapes for what a terminal would obey."""
    return "".join(
        char if char.isprintable() or char in _JOINERS else repr(char)[1:-1]
        for char in " ".join(message.split())
    )


def _given(error: Exception, message: str) -> str:
    """What stood on the command line, which typer leaves out when it tells what pydantic says."""
    cause: Any = error.__cause__
    faults = cause.errors() if hasattr(cause, "errors") else []
    values = [repr(fault["input"]) for fault in faults if isinstance(fault["input"], str)]
    told = ", ".join(value for value in values if value not in message)
    return f"; {told} was given" if told else ""


def _help_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""
