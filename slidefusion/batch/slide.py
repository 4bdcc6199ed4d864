"""One row: convert, fuse, tidy up; begun anew, or continued from where a run was cut off.

The rule for what lies at an output's place already: what this row made is continued or kept, what
an earlier version of the row left unfinished is deleted, and a finished slide that this row did not
make is deleted only with ``overwrite``. That a store is finished does not say whose it is: its
fingerprint does, which the table keeps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidefusion.batch.manifest import Row, is_temporary
from slidefusion.batch.status import SlideStatus, StatusTable
from slidefusion.errors import (
    OutputError,
    PlaceError,
    ProcessingError,
    SlidefusionError,
    UnknownNameError,
)
from slidefusion.omezarr.journal import JOURNAL_NAME, Journal
from slidefusion.omezarr.lock import LOCK_NAME, Lock
from slidefusion.omezarr.overlap import one_name
from slidefusion.omezarr.place import delete_store, state_of
from slidefusion.omezarr.shards import SCRATCH_NAME, clear_scratch
from slidefusion.omezarr.store import is_url
from slidefusion.tasks.interrupt import check_stop
from slidefusion.verbs.convert import convert
from slidefusion.verbs.fuse import fuse

__all__ = ["SlideRun", "discard", "is_done", "make_slide"]


@dataclass(frozen=True)
class SlideRun:
    """How rows are made; none of it changes a byte of their outputs."""

    client: Any | None = None
    retries: int = 3
    overwrite: bool = False


def is_done(row: Row, record: SlideStatus) -> bool:
    """Whether the row was made with these settings, and its slide is still there and whole.

    A source that was moved away since, or does not answer, makes no difference; one that changed
    does.
    """
    if record.state != "done" or not record.digest.startswith(row.settings_digest):
        return False
    try:
        if not _is_made(row.out, record.slide_run):
            return False
    except OutputError:  # a file is there, or it does not answer: making it will tell
        return False
    try:
        return row.missing or record.digest == row.digest()
    except (UnknownNameError, ProcessingError):
        return True
    except SlidefusionError:
        return False


def make_slide(row: Row, table: StatusTable, run: SlideRun) -> None:
    """Make the slide of a row, or what is left to do of it.

    Raises
    ------
    SlidefusionError
        Whatever ``convert`` and ``fuse`` raise.
    OutputError
        A finished slide or stack is there that this row did not make.
    UnknownNameError
        Nothing is at the source.
    KeyboardInterrupt
        When this thread is stopped.
    """
    if row.missing:
        raise UnknownNameError(f"there is nothing at the source {row.source}")
    record, digest = table.get(row.out), row.digest()
    # With its old state, "done", a slide that is yet to be made would count as made.
    anew = {"state": "waiting", "began": "", "slide_run": "", "attempts": 0, "error": ""}
    if record.digest != digest:
        _make_way(row, record, run.overwrite)
        table.update(row.out, digest=digest, stack_run="", stack="", **anew)
    elif record.slide_run and not _is_made(row.out, record.slide_run):  # deleted since, or replaced
        _clear(row.out, run.overwrite, ours=False)
        table.update(row.out, **anew)
    record = table.get(row.out)
    if is_temporary(row.stack) and record.stack:  # the manifest may have been renamed meanwhile
        row = dataclasses.replace(row, stack=record.stack)
    record = table.update(
        row.out,
        state="running",
        attempts=record.attempts + 1,
        source=row.source,
        line=row.line,
        stack=row.stack or "",
    )
    if not record.slide_run:
        stack = row.source
        if row.stack is not None:
            stack = row.stack
            if not (record.stack_run and _is_made(stack, record.stack_run)):
                with _owning(record, table, stack, record.began or "convert"):
                    table.update(row.out, stack_run="")
                    replace = run.overwrite and not record.began
                    table.update(row.out, stack_run=_convert(row, run, replace=replace))
                record = table.get(row.out)
        ours = record.began == "fuse"
        if not ours:
            _clear(row.out, run.overwrite, ours=False)
        with _owning(record, table, row.out, "fuse"):
            replace = run.overwrite and not ours
            table.update(row.out, slide_run=_fuse(row, stack, run, replace=replace))
    for place in row.places:
        _tidy(place)
    if row.stack is not None and is_temporary(row.stack):
        discard(row.stack)
        table.update(row.out, stack="")


@contextlib.contextmanager
def _owning(record: SlideStatus, table: StatusTable, place: str, began: str) -> Iterator[None]:
    """Within it the table says ``began``; no longer after it if ``place`` is another's."""
    taken = record.began != began and state_of(place)[0] not in ("empty", "deleted")
    table.update(record.out, began=began)
    try:
        yield
    except OutputError:
        if taken:  # what is there is not the row's, nor will be when the row is changed
            table.update(record.out, began=record.began)
        raise


def _make_way(row: Row, old: SlideStatus, overwrite: bool) -> None:
    """For a row that was never begun with these settings: what lies at its outputs' places."""
    _clear(row.out, overwrite, ours=old.began == "fuse")
    if row.stack is not None and row.keeps_stack:
        begun = bool(old.began and old.stack) and one_name(old.stack) == one_name(row.stack)
        _clear(row.stack, overwrite, ours=begun)
    for stack in (row.stack, old.stack):
        if stack and is_temporary(stack):
            discard(stack)


def _clear(place: str, overwrite: bool, *, ours: bool) -> None:
    """Make sure that an output can be begun at ``place``; what is finished there stays for now.

    ``ours`` says that what is unfinished there is an older version of the row's.
    """
    state, _ = state_of(place)
    if state == "unfinished":
        Lock(place).release()  # refused here if another run is writing it, before any work
    if state in ("complete", "zarr"):
        if not overwrite:
            made = "was made with other settings or from another source" if ours else "exists"
            raise OutputError(
                f"{place} {made}, and is finished; pass overwrite=True (--overwrite) to make it "
                "anew, or give another place"
            )
    elif state == "deleted" or (state == "unfinished" and (ours or overwrite)):
        discard(place)


def _convert(row: Row, run: SlideRun, *, replace: bool) -> str:
    """Make or continue the stack of a row; returns its fingerprint."""
    assert row.stack is not None
    more = {"client": run.client, "retries": run.retries, "progress": False, **row.convert}
    make = functools.partial(convert, row.source, row.stack, **more)
    anew = run.overwrite or not row.keeps_stack
    return _continue(make, row.stack, anew=anew, replace=replace)


def _fuse(row: Row, stack: str, run: SlideRun, *, replace: bool) -> str:
    """Make or continue the slide of a row; returns its fingerprint."""
    more = {"client": run.client, "retries": run.retries, "progress": False, **row.fuse}
    make = functools.partial(fuse, stack, row.fuser, out=row.out, **more)
    return _continue(make, row.out, anew=run.overwrite, replace=replace)


def _continue(make: Callable[..., Any], place: str, *, anew: bool, replace: bool) -> str:
    """Make an output, going on with what an earlier run left; ``anew`` if that cannot be used.

    Another version of slidefusion, say, does not continue what this one began. What is finished may
    be the work of a run that was killed before it was noted, or somebody else's: ``verify`` takes
    it up if it was made with these settings. With ``replace`` nothing there is the row's. The verb
    deletes it, once it knows that what takes its place can begin. Returns the fingerprint.
    """
    check_stop()
    try:
        make(overwrite=replace, verify=not replace and _is_made(place))
    except PlaceError:
        raise  # what is there is somebody's input, or could not be looked at
    except OutputError:
        if not anew:
            raise
        make(overwrite=True)
    return _fingerprint(place)


def _fingerprint(where: str) -> str:
    return str(state_of(where)[1].get("fingerprint", ""))


def _is_made(where: str, run: str = "") -> bool:
    """Whether the finished output of the run with this fingerprint is there; any if it is empty."""
    state, mine = state_of(where)
    return state == "complete" and run in ("", mine.get("fingerprint"))


def discard(where: str) -> None:
    """Delete an output, finished or not, unless another run is writing it.

    Raises
    ------
    OutputError
        When another run is, or what is there is no Zarr store.
    ProcessingError
        When the store refuses.
    """
    state, _ = state_of(where)
    if state == "other":
        raise OutputError(f"{where} is no output of slidefusion; move it away, or choose another")
    if state == "empty" and (is_url(where) or not Path(where).exists()):
        return
    lock = Lock(where)
    try:
        delete_store(where)
    finally:
        lock.release()
    if not is_url(where):
        with contextlib.suppress(OSError):
            Path(where).rmdir()


def _tidy(where: str) -> None:
    """Remove what a run leaves in a finished output that was killed just before its end."""
    if is_url(where):
        left = Journal.exists(where)
    else:
        left = any(Path(where, name).exists() for name in (LOCK_NAME, JOURNAL_NAME, SCRATCH_NAME))
    if left and _is_made(where):
        lock = Lock(where)
        try:
            clear_scratch(where)
            Journal.forget(where)
        finally:
            lock.release()
