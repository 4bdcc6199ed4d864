"""Which regions of an output are finished, so that an interrupted run continues.

The state of a run is one small JSON object beside the data: what the run is (its fingerprint) and a
bitmap of finished regions. Only the process that leads the run writes it, whole, every few seconds
and at the end; a region that was finished but not yet noted is simply done again, which gives the
same bytes. While it exists, and until the root attributes say so, the output is not complete.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OutputError, ProcessingError
from slidefusion.files import replace_file
from slidefusion.omezarr.access import reaching, writing
from slidefusion.omezarr.store import is_url

__all__ = ["JOURNAL_NAME", "Journal", "fingerprint_of"]

_LOG = logging.getLogger("slidefusion")

JOURNAL_NAME = "slidefusion-run.json"
_FLUSH_SECONDS = 2.0


def fingerprint_of(settings: dict[str, Any]) -> str:
    """A digest of settings that are JSON-able, independent of their order.

    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """Finished regions of the output at ``where`` (an absolute path or a URL).

    Parameters
    ----------
    where
        Root of the output store.
    settings
        All that the output's bytes depend on, JSON-able.
    done
        Which regions are finished. Stored when it is flushed, not before.
    """

    def __init__(self, where: str, settings: dict[str, Any], done: npt.NDArray[np.bool_]) -> None:
        self.where = where
        # Through JSON, so that what is compared is what was stored (tuples become lists).
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        self.done = done
        self._flushed = 0.0

    @classmethod
    def open(cls, where: str, settings: dict[str, Any], count: int) -> Journal:
        """What is stored at ``where``, or a new journal of ``count`` regions, which is stored.

        Raises
        ------
        OutputError
            When a run with other settings began there; the message names what differs.
        """
        journal = cls(where, settings, np.zeros(count, bool))
        stored = _load(where)
        if stored is None:
            journal.flush()
            return journal
        journal._check(stored["settings"])
        journal.done = np.unpackbits(stored["done"], count=count).astype(bool)
        return journal

    @staticmethod
    def stored_progress(where: str) -> tuple[int, int] | None:
        """Finished and all regions of the run that was interrupted at ``where``, or None."""
        stored = _load(where)
        if stored is None:
            return None
        done = np.unpackbits(stored["done"])
        return int(done.sum()), stored["count"]

    def _check(self, stored: dict[str, Any]) -> None:
        if stored == self.settings:
            return
        differences = "; ".join(_differences(stored, self.settings))
        raise OutputError(
            f"{self.where} holds an unfinished run with other settings ({differences}); "
            "repeat it with the old settings, choose another output, or pass overwrite=True"
        )

    def mark(self, index: int) -> None:
        """Note a region as finished; written to the store at most every two seconds.

        A store that refuses at the moment is no reason to stop: the next note may get through.
        """
        self.done[index] = True
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            try:
                self.flush()
            except ProcessingError as error:
                self._flushed = time.monotonic()
                _LOG.warning("%s", error)

    def unmark(self, index: int) -> None:
        """Note a region as not finished: what it wrote is damaged."""
        self.done[index] = False

    def flush(self) -> None:
        """Write the state now, whole or not at all."""
        packed = base64.b64encode(np.packbits(self.done).tobytes()).decode()
        data = json.dumps(
            {"settings": self.settings, "count": self.done.size, "done": packed}
        ).encode()
        with writing(f"the progress of {self.where}"):
            if is_url(self.where):
                import fsspec

                filesystem, root = fsspec.core.url_to_fs(self.where)
                filesystem.pipe_file(f"{root}/{JOURNAL_NAME}", data)
            else:
                with replace_file(Path(self.where) / JOURNAL_NAME) as partial:
                    partial.write_bytes(data)
        self._flushed = time.monotonic()

    @staticmethod
    def forget(where: str) -> None:
        """Delete the state stored at ``where``, if there is any."""
        with writing(f"the progress of {where}"):
            if is_url(where):
                import fsspec

                filesystem, root = fsspec.core.url_to_fs(where)
                if filesystem.exists(f"{root}/{JOURNAL_NAME}"):
                    filesystem.rm_file(f"{root}/{JOURNAL_NAME}")
            else:
                (Path(where) / JOURNAL_NAME).unlink(missing_ok=True)

    @staticmethod
    def exists(where: str) -> bool:
        """Whether a state is stored at ``where``, readable or not."""
        with reaching(where):
            if is_url(where):
                import fsspec

                filesystem, root = fsspec.core.url_to_fs(where)
                return bool(filesystem.exists(f"{root}/{JOURNAL_NAME}"))
            return (Path(where) / JOURNAL_NAME).exists()


def _load(where: str) -> dict[str, Any] | None:
    """What is stored, with the bits of ``done`` as bytes (uint8); None if there is nothing."""
    with reaching(where):
        try:
            if is_url(where):
                import fsspec

                filesystem, root = fsspec.core.url_to_fs(where)
                text = filesystem.cat_file(f"{root}/{JOURNAL_NAME}")
            else:
                text = (Path(where) / JOURNAL_NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        kinds = {"done": str, "settings": dict, "count": int}
        if isinstance(found, dict) and all(isinstance(found.get(k), v) for k, v in kinds.items()):
            done = base64.b64decode(found["done"], validate=True)
            return {**found, "done": np.frombuffer(done, np.uint8)}
    raise OutputError(
        f"the progress file {JOURNAL_NAME} in {where} is damaged; delete the output, or pass "
        "overwrite=True to start anew"
    )


def _differences(old: dict[str, Any], new: dict[str, Any], above: str = "") -> Iterator[str]:
    """What is not the same in two mappings, and in those in them, one text each."""
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
            was, now = ({str(k): v for k, v in enumerate(values)} for values in (was, now))
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differences(was, now, f"{above}{key}.")
        elif was != now:
            yield f"{above}{key} was {_short(was)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
