"""One row: convert, fuse, tidy up; begun anew, or continued from where a run was cut off.

The rule for what lies at an output's place already: what this row made is continued or kept, what
an earlier version of the row left unfinished is deleted, and a finished slide that this row did not
make is deleted only with ``overwrite``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidefusion.batch.manifest import Row
from slidefusion.batch.status import SlideStatus, StatusTable
from slidefusion.errors import OutputError, PlaceError, UnknownNameError
from slidefusion.omezarr.journal import JOURNAL_NAME, Journal
from slidefusion.omezarr.lock import LOCK_NAME, Lock
from slidefusion.omezarr.place import delete_store, state_of
from slidefusion.omezarr.shards import SCRATCH_NAME, clear_scratch
from slidefusion.omezarr.store import is_url
from slidefusion.tasks.interrupt import check_stop
from slidefusion.verbs.convert import convert
from slidefusion.verbs.fuse import fuse

__all__ = ["SlideRun", "discard", "is_complete", "is_done", "make_slide"]


@dataclass(frozen=True)
class SlideRun:
    """How rows are made; none of it changes a byte of their outputs."""

    client: Any | None = None
    retries: int = 3
    overwrite: bool = False


def is_done(row: Row, record: SlideStatus) -> bool:
    """Whether the row was made with these settings, and its slide is still there and whole.

    A source that was moved away since makes no difference; one that changed does.
    """
    if record.state != "done" or not record.digest.startswith(row.settings_digest):
        return False
    return (row.missing or record.digest == row.digest()) and is_complete(row.out)


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
    if record.digest != digest:
        _make_way(row, record, run.overwrite)
        record = table.update(row.out, digest=digest, began="", attempts=0, error="")
    table.update(
        row.out, state="running", attempts=record.attempts + 1, source=row.source, line=row.line
    )
    stack = row.source
    if record.began != "fuse":
        if row.stack is not None:
            table.update(row.out, began="convert")
            stack = _convert(row, run)
        _clear(row.out, run.overwrite, ours=False)
        table.update(row.out, began="fuse")
    elif row.stack is not None:
        stack = row.stack
        if not is_complete(row.out) and not is_complete(stack):  # somebody deleted it
            _convert(row, run)
    if not is_complete(row.out):
        more = {"client": run.client, "retries": run.retries, "progress": False, **row.fuse}
        make = functools.partial(fuse, stack, row.fuser, out=row.out, **more)
        _continue(make, row.out, anew=run.overwrite)
    for place in row.places:
        _tidy(place)
    if row.stack is not None and not row.keeps_stack:
        discard(row.stack)


def _make_way(row: Row, old: SlideStatus, overwrite: bool) -> None:
    """For a row that was never begun with these settings: what lies at its outputs' places."""
    changed = bool(old.began)
    _clear(row.out, overwrite, ours=changed, later=True)
    if row.stack is not None:
        if row.keeps_stack:
            _clear(row.stack, overwrite, ours=changed)
        else:
            discard(row.stack)


def _clear(place: str, overwrite: bool, *, ours: bool, later: bool = False) -> None:
    """Make sure that an output can be begun at ``place``.

    ``ours`` says that what is unfinished there is an older version of the row's; ``later`` that
    what is finished stays for now, if it may be deleted at all.
    """
    state, _ = state_of(place)
    if state in ("complete", "zarr"):
        if not overwrite:
            made = "was made with other settings or from another source" if ours else "exists"
            raise OutputError(
                f"{place} {made}, and is finished; pass overwrite=True (--overwrite) to make it "
                "anew, or give another place"
            )
        if not later:
            discard(place)
    elif state == "deleted" or (state == "unfinished" and (ours or overwrite)):
        discard(place)


def _convert(row: Row, run: SlideRun) -> str:
    """The stack of a row, continued or made."""
    assert row.stack is not None
    if not is_complete(row.stack):
        more = {"client": run.client, "retries": run.retries, "progress": False, **row.convert}
        make = functools.partial(convert, row.source, row.stack, **more)
        _continue(make, row.stack, anew=run.overwrite or not row.keeps_stack)
    return row.stack


def _continue(make: Callable[[], Any], place: str, *, anew: bool) -> None:
    """Make an output, going on with what an earlier run left; ``anew`` if that cannot be used.

    Another version of slidefusion, say, does not continue what this one began.
    """
    check_stop()
    try:
        make()
    except PlaceError:
        raise  # what is there is somebody's input, or could not be looked at
    except OutputError:
        if not anew:
            raise
        discard(place)
        make()


def is_complete(where: str) -> bool:
    """Whether a finished output is there."""
    return state_of(where)[0] == "complete"


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
    if left and is_complete(where):
        lock = Lock(where)
        try:
            clear_scratch(where)
            Journal.forget(where)
        finally:
            lock.release()
