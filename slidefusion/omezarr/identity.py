"""What a local store says of itself now: asked as often as its pixels are read."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from slidefusion.omezarr.record import record_of

__all__ = ["layout_in", "record_file", "run_in"]


def record_file(where: str, name: str) -> tuple[str, str] | None:
    """The file of the innermost record around the array ``name``, and the run that it names."""
    for folder in Path(where, name).parents:
        file = folder / "zarr.json"
        if not file.is_file():
            break
        if run := run_in(file):
            return str(file), run
    return None


def run_in(file: Path) -> str | None:
    """The fingerprint in the record of a group, by its ``zarr.json``."""
    return _said_by(file)[0]


def layout_in(file: Path) -> str:
    """How an array's chunks lie and are encoded, by its ``zarr.json`` or ``.zarray``."""
    return _said_by(file)[1]


def _said_by(file: Path) -> tuple[str | None, str]:
    """The run and the layout; a file is parsed when it has changed."""
    stat = file.stat()
    return _parsed(file, stat.st_ino, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=256)
def _parsed(file: Path, *_: int) -> tuple[str | None, str]:
    found: dict[str, Any] = json.loads(file.read_bytes())
    run = record_of(found.pop("attributes", None) or {}).get("fingerprint")
    return run if isinstance(run, str) else None, json.dumps(found, sort_keys=True)
