"""One run at a time writes an output.

The run that writes says so in a small object beside the data: on which machine, in which process,
since when, and a number that it raises every second. Another run that finds it is refused while the
owner lives, and takes over when it is dead. Whether it lives is known at once on the same machine
(the process and the moment it started at); for another machine the number is watched for a few
seconds of one's own clock. Clocks of different machines are never compared.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slidefusion.errors import OutputError
from slidefusion.omezarr.store import is_url

__all__ = ["LOCK_NAME", "Lock"]

LOCK_NAME = "slidefusion-lock.json"

_LOG = logging.getLogger("slidefusion")

_BEAT_SECONDS = 1.0
_BEATS_MISSED = 6
"""A foreign owner that stays silent for so many of its beats is dead."""
_SETTLE_SECONDS = 0.5
"""Where a store cannot create exclusively, two that took it at once find out by then."""
_HELD: set[str] = set()
"""Tokens of this process's locks. A record of it with another one outlived its run."""
_RECORD_BYTES = 512
"""A record is overwritten in place, at one length: it never looks torn, also on a full disk."""


class Lock:
    """The right to write the output at ``where``; taken when made, given back by ``release``.

    Raises
    ------
    OutputError
        When a run that is alive holds it, naming its machine, process and start; or when the place
        cannot be written to.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._file = _UrlFile(where) if is_url(where) else _LocalFile(where)
        self._record = {**_myself(), "token": uuid.uuid4().hex, "beat": 0}
        _HELD.add(self._record["token"])
        self._stop = threading.Event()
        writing = threading.RLock()  # a release must not be overtaken by a beat under way
        self._lost: str | None = None
        try:
            self._acquire()
        except BaseException as error:
            _HELD.discard(self._record["token"])
            if isinstance(error, OutputError) or not isinstance(error, Exception):
                raise
            what = f"cannot create {where}: {type(error).__name__}: {error}"
            raise OutputError(f"{what}; choose a place that can be written to") from error
        # The thread holds no reference to the lock, so one that is forgotten is given back.
        beating = threading.Thread(
            target=_beat,
            args=(self._file, self._record, self._stop, writing, weakref.ref(self)),
            name="slidefusion-lock",
            daemon=True,
        )
        beating.start()
        self._finalizer = weakref.finalize(
            self, _release, self._file, self._record, self._stop, writing
        )

    def check(self) -> None:
        """Make sure that it is still ours.

        Raises
        ------
        OutputError
            When another run took it, because this one was silent for too long.
        """
        if self._lost is not None:
            raise OutputError(
                f"another run took over {self.where} ({self._lost}), since this one gave no sign "
                "of life for some seconds; let that one finish"
            )

    def release(self) -> None:
        """Give it back; may be called twice."""
        self._finalizer()

    def _acquire(self) -> None:
        with self._file.exclusively():
            found = None
            while not self._file.create(self._record):
                found = self._file.read()
                if found is not None and self._is_dead(found):
                    text = "%s: taking over from a run that is dead (%s)"
                    _LOG.warning(text, self.where, _who(found))
                    self._file.write(self._record)
                    break
        if found is not None or not self._file.is_exclusive:
            time.sleep(_SETTLE_SECONDS)
            winner = self._file.read() or {}
            if winner.get("token") != self._record["token"]:
                raise _held(self.where, winner)

    def _is_dead(self, owner: dict[str, Any]) -> bool:
        """True if the owner is dead; False if it ended, and took its record away.

        Raises
        ------
        OutputError
            It is alive.
        """
        own = self._record
        if owner.get("machine") == own["machine"]:
            if owner.get("pid") == own["pid"]:  # or of an earlier process of that number
                alive = owner.get("token") in _HELD
            else:
                alive = _started(owner.get("pid")) == owner.get("started")
            if alive:
                raise _held(self.where, owner)
            return True
        beat_seconds = max(_BEAT_SECONDS, float(owner.get("beat_seconds", _BEAT_SECONDS)))
        deadline = time.monotonic() + beat_seconds * _BEATS_MISSED
        _LOG.info("%s: is the run on %s alive?", self.where, owner.get("host"))
        while time.monotonic() < deadline:
            time.sleep(beat_seconds / 4)
            now = self._file.read()
            if now is None:
                return False
            if (now.get("token"), now.get("beat")) != (owner.get("token"), owner.get("beat")):
                raise _held(self.where, now)
        return True


def _beat(
    file: _File,
    record: dict[str, Any],
    stop: threading.Event,
    writing: threading.RLock,
    lock: weakref.ref[Lock],
) -> None:
    while not stop.wait(_BEAT_SECONDS):
        try:
            found = file.read()
            if found is not None and found.get("token") != record["token"]:
                mine = lock()
                if mine is not None:
                    mine._lost = _who(found)
                return
            record["beat"] += 1
            with writing:
                if not stop.is_set():
                    file.write(record)
        except Exception as error:  # the store may be slow or full; the next beat may get through
            _LOG.info("heartbeat of %s: %s", file.where, error)


def _release(
    file: _File, record: dict[str, Any], stop: threading.Event, writing: threading.RLock
) -> None:
    # A forked child inherits the lock's memory, not the lock.
    if not stop.is_set() and record["pid"] == os.getpid():
        stop.set()
        try:
            with writing, contextlib.suppress(Exception):
                found = file.read()
                if found is None or found.get("token") == record["token"]:
                    file.remove()
        finally:
            _HELD.discard(record["token"])  # not before: until then nobody may take it over


class _LocalFile:
    """The record as a file; made exclusively, then overwritten in place."""

    is_exclusive = True

    def __init__(self, where: str) -> None:
        self.where = where
        self._path = Path(where) / LOCK_NAME

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Nobody else on this machine decides about the lock meanwhile."""
        folder = Path(self.where)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as cleanup:
            with contextlib.suppress(OSError, ImportError):  # not every system can
                import fcntl

                handle = os.open(folder, os.O_RDONLY)
                cleanup.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def create(self, record: dict[str, Any]) -> bool:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(_encode(record))
        return True

    def read(self) -> dict[str, Any] | None:
        try:
            return _decode(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def write(self, record: dict[str, Any]) -> None:
        with self._path.open("r+b", buffering=0) as file:
            file.write(_encode(record))
            file.truncate()  # of a damaged one that was longer

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class _UrlFile:
    """The record as an object of a store; made exclusively where the store can do that."""

    is_exclusive = False

    def __init__(self, where: str) -> None:
        import fsspec

        self.where = where
        self._store, root = fsspec.core.url_to_fs(where)
        self._path = f"{root}/{LOCK_NAME}"

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """A store has no such thing; see ``_SETTLE_SECONDS``."""
        yield

    def create(self, record: dict[str, Any]) -> bool:
        if self.read() is not None:
            return False
        try:
            self._store.pipe_file(self._path, _encode(record), mode="create")
        except FileExistsError:
            # The answer to the first try may have been lost, and the store's library tried again.
            return bool((self.read() or {}).get("token") == record["token"])
        except (TypeError, NotImplementedError, ValueError):
            self._store.pipe_file(self._path, _encode(record))
        return True

    def read(self) -> dict[str, Any] | None:
        try:
            return _decode(self._store.cat_file(self._path))
        except FileNotFoundError:
            return None

    def write(self, record: dict[str, Any]) -> None:
        self._store.pipe_file(self._path, _encode(record))

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._path)


_File = _LocalFile | _UrlFile


def _encode(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode().ljust(_RECORD_BYTES)


def _decode(data: bytes) -> dict[str, Any] | None:
    """The record; an empty one, never alive, for what its writer did not finish."""
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    return {}


def _myself() -> dict[str, Any]:
    """Which process on which machine this is."""
    pid = os.getpid()
    return {
        "host": socket.gethostname()[:100],
        "machine": _machine(),
        "pid": pid,
        "started": _started(pid),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "beat_seconds": _BEAT_SECONDS,
    }


def _machine() -> str:
    """Names what process numbers belong to: this boot of this machine, and the container."""
    parts = [socket.gethostname()[:100]]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _started(pid: Any) -> str | None:
    """When a process of this machine began, as its system keeps it; None when it is gone."""
    if not isinstance(pid, int):
        return None
    try:
        # The second field, the command in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    import psutil

    try:  # never os.kill(pid, 0), which ends the process on Windows
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:  # it is there, and does not tell
        return "alive"


def _who(record: dict[str, Any]) -> str:
    return (
        f"on {record.get('host', 'an unknown machine')}, process {record.get('pid', '?')}, "
        f"since {record.get('since', '?')} by its clock"
    )


def _held(where: str, owner: dict[str, Any]) -> OutputError:
    return OutputError(
        f"another run is writing {where} ({_who(owner)}): wait until it has finished, stop it, or "
        "choose another output; if it is dead, run again in a few seconds"
    )
