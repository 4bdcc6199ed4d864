"""``slidefusion.batch``: all slides of a manifest, converted and fused."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from slidefusion import memory
from slidefusion.batch.manifest import Row, read_manifest
from slidefusion.batch.slide import SlideRun, is_done, make_slide
from slidefusion.batch.status import SlideStatus, StatusTable, status_path
from slidefusion.batch.view import live_table
from slidefusion.errors import (
    OptionError,
    OutputError,
    PluginError,
    ProcessingError,
    SlidefusionError,
    UnknownNameError,
)
from slidefusion.files import clear_partials
from slidefusion.geometry import as_whole
from slidefusion.omezarr.lock import Lock
from slidefusion.omezarr.store import is_url
from slidefusion.run_options import RunOptions, check_flags
from slidefusion.tasks.clients import active_client, out_of_the_way
from slidefusion.tasks.interrupt import stopped_by
from slidefusion.tasks.outcomes import may_pass
from slidefusion.tasks.pools import workers_of
from slidefusion.wording import counted

__all__ = ["batch"]

_LOG = logging.getLogger("slidefusion")
_MOST_AT_ONCE = 4
_LOOKERS = 16
"""Rows that are looked at, at a time, for whether they are done: stores far away take long."""
_LOOK_SECONDS = 0.5


def batch(
    manifest: str | os.PathLike[str],
    *,
    out_dir: str | os.PathLike[str] | None = None,
    fuser: str = "lpp",
    client: Any | None = None,
    at_once: int | None = None,
    keep_going: bool = False,
    overwrite: bool = False,
    retries: int = 3,
    progress: bool = True,
    on_slide: Callable[[SlideStatus], None] | None = None,
) -> list[SlideStatus]:
    """Convert and fuse the slides of a manifest; a slide that fails does not stop the others.

    All rows are checked before anything is begun, as far as that can be without opening their
    sources and weights. What became of each is kept in ``slides.status.csv`` beside
    ``slides.csv``, and the same call goes on from there: slides that are done are skipped, those
    that failed or were interrupted are continued. A row that was changed since (or whose source
    was) is refused if its slide is finished, unless ``overwrite`` is given; so is one whose slide
    something else replaced. Of an array in an object store that something else wrote, a change of
    its metadata alone is noticed.

    Parameters
    ----------
    manifest
        CSV file with one slide a row; its first line names the columns. ``source``: path, glob or
        URL (an OME-Zarr stack is fused as it is). Optional: ``out``, the slide to write
        (``NAME-fused.zarr`` by default); ``stack``, where to keep the converted stack, which else
        is deleted when its slide is done; ``fuser``; ``mpp``, ``z_step``, ``z_um``, ``reference``,
        ``align`` (yes or no), ``reader``, ``chunk_px``, ``shard_px`` for
        :func:`slidefusion.convert`; ``planes``, ``crop``, ``chunks``, ``device`` for
        :func:`slidefusion.fuse`; options of the fuser by their names; ``reader.NAME`` for options
        of the reader. An empty cell is as if the column were not there. Relative
        paths count from the manifest's folder.
    out_dir
        Folder or URL from which ``out`` and ``stack`` count instead.
    fuser
        For rows without one.
    client
        A ``dask.distributed.Client``; by default the active one (see :func:`slidefusion.fuse`), or
        this machine's threads.
    at_once
        Slides in work at a time: by default one, on a cluster up to four. Without a cluster they
        share this machine's memory evenly.
    keep_going
        Do the other rows if some sources are missing; those count as failed. (The source of a slide
        that is done may always be missing.)
    overwrite
        Make anew what is finished at an output's place but not by this row as it is now.
    retries
        How often a region is tried again whose error may pass.
    progress
        Show a live table on a terminal.
    on_slide
        Called in this thread with every slide that ended, done or failed.

    Returns
    -------
    list of SlideStatus
        One a row, in their order; ``state`` is ``"done"`` or ``"failed"``, with the reason in
        ``error``.

    Raises
    ------
    UsageError
        A row cannot be done as asked (all of these are listed), or another batch is working on
        this manifest; nothing was begun.
    ProcessingError
        The work stopped before its end, since every other slide would have failed as well: the
        scheduler is gone. Or slides were not begun that would go to a disk that is full, or may not
        be written to; all others were.

    >>> import slidefusion as sf
    >>> failed = [s for s in sf.batch("slides.csv") if s.state == "failed"]  # doctest: +SKIP
    """
    check_flags(keep_going=keep_going, overwrite=overwrite, progress=progress)
    if not isinstance(manifest, str | os.PathLike):
        raise OptionError(f"{manifest!r} is no manifest: give the path of a CSV file")
    path = Path(manifest).expanduser()
    client = active_client(client)
    if at_once is None:
        count = 1 if client is None else _at_once(client)
    else:
        count = as_whole(at_once) or 0
    if count < 1:
        raise OptionError(f"at_once={at_once!r}: give a whole number of slides, 1 or more")
    RunOptions(retries=retries)  # refuses here what would make every slide fail
    if not path.is_file():
        raise UnknownNameError(f"there is no manifest {path}; give a CSV file")
    with _only_one(path), out_of_the_way(client):
        clear_partials(status_path(path))
        table = StatusTable(status_path(path))

        def excused(row: Row) -> bool:
            return keep_going or is_done(row, table.get(row.out))

        rows = read_manifest(path, out_dir, fuser, excused)
        _Batch(rows, table, SlideRun(client, retries, overwrite), count, on_slide).run(progress)
        return [table.get(row.out) for row in rows]


def _at_once(client: Any) -> int:
    threads = sum(int(worker["nthreads"]) for worker in workers_of(client).values())
    return max(1, min(_MOST_AT_ONCE, threads))


@contextlib.contextmanager
def _only_one(manifest: Path) -> Iterator[None]:
    """Within it no other process works on this manifest."""
    status = status_path(manifest.absolute())
    folder = status.with_name(status.name.replace(".status.csv", ".running"))
    try:
        lock = Lock(str(folder))
    except OutputError as error:
        raise OutputError(f"the batch {manifest} cannot be started: {error}") from error
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()


class _Batch:
    """The rows in work, in threads of this process that wait for what they have sent."""

    def __init__(
        self,
        rows: Sequence[Row],
        table: StatusTable,
        options: SlideRun,
        at_once: int,
        on_slide: Callable[[SlideStatus], None] | None,
    ) -> None:
        self.rows, self.table, self.options, self.at_once = rows, table, options, at_once
        self.on_slide = on_slide or (lambda status: None)
        self.stop = threading.Event()  # begin no other slide
        self.interrupted = threading.Event()  # nor go on with those in work
        self.fatal: SlidefusionError | None = None
        self.full: dict[str, str] = {}  # disks that take nothing more, and what was said
        self.left_out: list[str] = []  # outputs that would lie there

    def run(self, progress: bool) -> None:
        """Make all that are not done."""
        looking = ThreadPoolExecutor(_LOOKERS, "slidefusion-batch-look")
        try:
            done = looking.map(lambda row: is_done(row, self.table.get(row.out)), self.rows)
            todo = [row for row, is_made in zip(self.rows, done, strict=True) if not is_made]
        finally:
            looking.shutdown(cancel_futures=True)
        before = len(self.rows) - len(todo)
        _LOG.info("batch=%s slides=%d done_before=%d", self.table.path, len(self.rows), before)
        for row in todo:
            if row.missing:
                self.table.update(row.out, source=row.source, line=row.line)
        pool = ThreadPoolExecutor(self.at_once, "slidefusion-batch")
        here = self.options.client is None  # workers of a cluster run no more tasks than they have
        sharers = min(self.at_once, len(todo)) if here and todo else 1
        with (
            memory.shared_by(sharers),
            live_table(len(self.rows), before, self.table, enabled=progress) as show,
        ):
            try:
                # With its context a thread knows whether it works for a task of a cluster, and with
                # how many it shares the memory.
                ended: queue.SimpleQueue[Future[SlideStatus | None]] = queue.SimpleQueue()
                for row in todo:
                    begun = pool.submit(copy_context().run, self._make, row)
                    begun.add_done_callback(ended.put)
                self._follow(ended, len(todo), show)
            except BaseException:
                self.stop.set()
                self.interrupted.set()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        if self.fatal is not None:
            raise self.fatal
        if self.left_out:
            raise ProcessingError(
                f"stopped with {counted(len(self.left_out), 'slide')} not begun, which would be "
                f"written to the same disk: {next(iter(self.full.values()))}"
            )

    def _follow(
        self,
        ended: queue.SimpleQueue[Future[SlideStatus | None]],
        left: int,
        show: Callable[[SlideStatus], None],
    ) -> None:
        while left:
            try:
                future = ended.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            left -= 1
            status = future.result()
            if status is not None:
                show(status)
                self.on_slide(status)

    def _make(self, row: Row) -> SlideStatus | None:
        """One slide, whatever happens to it; None when it was not begun."""
        if self.stop.is_set():
            return None
        if not self.full.keys().isdisjoint(_disks(row)):
            self.left_out.append(row.out)
            return None
        start = time.perf_counter()
        state, reason = "failed", ""
        try:
            with stopped_by(self.interrupted):
                make_slide(row, self.table, self.options)
            state = "done"
        except KeyboardInterrupt:
            state = "waiting"
            raise
        except Exception as error:
            reason = _reason(error)
            _LOG.error("slide=%s state=failed error=%s", row.out, reason, exc_info=error)
            self._judge(row, error)
        finally:
            status = self._end(row, state, reason, time.perf_counter() - start)
        return status

    def _end(self, row: Row, state: str, reason: str, seconds: float) -> SlideStatus:
        _LOG.info("slide=%s state=%s seconds=%.1f", row.out, state, seconds)
        return self.table.update(
            row.out,
            state=state,
            seconds=round(seconds, 2),
            error=reason,
            source=row.source,
            line=row.line,
        )

    def _judge(self, row: Row, error: Exception) -> None:
        """Stop if the others would fail as well, or those that go to the same disk."""
        client = self.options.client
        if client is not None and client.status != "running":
            self.stop.set()
            self.fatal = self.fatal or ProcessingError(
                f"stopped, since the other slides would fail as well: {_reason(error)}"
            )
        elif not isinstance(error, PluginError) and may_pass(error) == "stop":
            self.full.update(dict.fromkeys(_disks(row), _reason(error)))


def _disks(row: Row) -> set[str]:
    """What the outputs of a row take room on: disks, by their numbers, or buckets."""
    found = set()
    for place in row.places:
        if is_url(place):
            found.add("/".join(place.split("/")[:3]))
        else:
            with contextlib.suppress(OSError):  # it cannot be looked at: making the slide says why
                folders = (Path(place), *Path(place).parents)
                found.add(str(next(one for one in folders if one.exists()).stat().st_dev))
    return found


def _reason(error: Exception) -> str:
    """An error in one line."""
    text = str(error) if isinstance(error, SlidefusionError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
