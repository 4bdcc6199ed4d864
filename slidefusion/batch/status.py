"""The table of states beside the manifest: a CSV file that is replaced as a whole at each change.

A record belongs to an output, so rows may change their places in the manifest. ``began`` says how
far the work on a row *with this digest* has come, which is what makes it continuable: what lies at
the stack's or the slide's place is the row's own from the moment that the table says so, until
something else finishes a store there: ``stack_run`` and ``slide_run`` tell.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidefusion.errors import OptionError, OutputError
from slidefusion.files import replace_file
from slidefusion.omezarr.overlap import one_name

__all__ = ["SlideStatus", "StatusTable", "status_path"]


@dataclass(frozen=True)
class SlideStatus:
    """What became of one row of a manifest."""

    out: str
    """The fused slide."""
    state: str = "waiting"
    """``"waiting"``, ``"running"``, ``"done"`` or ``"failed"``."""
    attempts: int = 0
    """How often it was begun, with the settings that it has now."""
    seconds: float = 0.0
    """Of the last attempt."""
    error: str = ""
    """Why it failed."""
    source: str = ""
    line: int = 0
    """In the manifest, as of the last attempt."""
    digest: str = ""
    """Of the row's settings and the files of its source."""
    began: str = ""
    """``"convert"`` or ``"fuse"``: the last step that was begun."""
    stack_run: str = ""
    """Fingerprint of the run that made the stack, which the stack says of itself."""
    slide_run: str = ""
    """That of the slide."""
    stack: str = ""
    """Where the stack was begun; empty when it was deleted, since its slide is done."""
    updated: str = ""
    """When the record was changed."""


_FIELDS = [field.name for field in dataclasses.fields(SlideStatus)]
_LATER = {"stack_run", "slide_run", "stack"}
"""Fields that tables of an earlier version have not."""
_NAMES = "surrogateescape"
"""How names of files that are no UTF-8 text, of an old disk, are written, and read again."""


def status_path(manifest: Path) -> Path:
    """Where the table is.

    >>> str(status_path(Path("scans/slides.csv")))
    'scans/slides.status.csv'
    """
    # Not the same for slides.csv and slides.txt.
    name = manifest.stem if manifest.suffix.lower() == ".csv" else manifest.name
    return manifest.with_name(f"{name}.status.csv")


class StatusTable:
    """The records at ``path``, by output; safe to use from several threads.

    Raises
    ------
    OutputError
        When what is there is no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._records: dict[str, SlideStatus] = {}
        self._lines: dict[str, str] = {}  # of the file: at each change one of thousands is another
        if not path.exists():
            return
        try:
            with path.open(newline="", encoding="utf-8", errors=_NAMES) as file:
                for cells in csv.DictReader(file):
                    record = _record(cells)
                    self._set(record)
        except (OSError, ValueError, KeyError, TypeError, OptionError) as error:
            raise OutputError(
                f"{path} is no table of states ({type(error).__name__}: {error}); move it away. "
                "Slides that are done already then need --overwrite, or another out"
            ) from error

    def get(self, out: str) -> SlideStatus:
        """The record of an output, however its place is spelt; a new one when there is none."""
        return self._records.get(one_name(out)) or SlideStatus(out)

    def running(self) -> list[SlideStatus]:
        """The slides that are in work."""
        with self._lock:
            return [record for record in self._records.values() if record.state == "running"]

    def update(self, out: str, **changes: Any) -> SlideStatus:
        """Change a record and write the table.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self._lock:
            record = dataclasses.replace(self.get(out), out=out, updated=now, **changes)
            self._set(record)
            self._write()
        return record

    def _set(self, record: SlideStatus) -> None:
        key = one_name(record.out)
        self._records[key] = record
        self._lines[key] = _line([getattr(record, name) for name in _FIELDS])

    def _write(self) -> None:
        text = "".join([_line(_FIELDS), *self._lines.values()])
        try:
            with replace_file(self.path) as partial:
                partial.write_text(text, encoding="utf-8", errors=_NAMES, newline="")
        except OSError as error:
            raise OutputError(
                f"the table of states cannot be written to {self.path}: {error.strerror or error}; "
                "make room, or put the manifest where files can be written beside it"
            ) from error


def _line(cells: list[Any]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _record(cells: dict[str, str]) -> SlideStatus:
    kinds: dict[str, Callable[[str], Any]] = {"attempts": int, "seconds": float, "line": int}
    found = {name: cells[name] for name in _FIELDS if name in cells or name not in _LATER}
    return SlideStatus(**{name: kinds.get(name, str)(text) for name, text in found.items()})
