"""How a run that writes an output goes about it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.errors import OptionError
from slidefusion.geometry import as_whole

__all__ = ["RunOptions", "check_flags"]


def check_flags(**given: Any) -> None:
    """Refuse what is neither True nor False, such as the text "no", which counts as true.

    Raises
    ------
    OptionError
        Naming the first such argument.

    >>> check_flags(overwrite=False, verify=np.True_)
    """
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise OptionError(f"{name}={value!r}: give True or False")


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about it; none of it changes a byte of the output."""

    client: Any | None = None
    progress: bool = True
    overwrite: bool = False
    verify: bool = False
    """Read all again at the end, or of an output that is complete, and repair what is damaged."""
    retries: int = 3
    """How often a region is tried again whose error may pass."""
    report: str | os.PathLike[str] | None = None
    """Local JSON file to write, with times, bytes, retries and memory."""

    def __post_init__(self) -> None:
        check_flags(progress=self.progress, overwrite=self.overwrite, verify=self.verify)
        retries = as_whole(self.retries)
        if retries is None or retries < 0:
            raise OptionError(
                f"retries={self.retries!r}: how often a region is tried again, a whole number from "
                "0 on"
            )
        if self.report is not None:
            _check_report(_path(self.report))


def _path(report: Any) -> Path:
    try:
        return Path(report)
    except TypeError:
        raise OptionError(
            f"report={report!r} is no path: give that of a file to write, or leave it out"
        ) from None


def _check_report(path: Path) -> None:
    """Refuse a place where no report can be, and to replace anything else than a report."""
    given = f"report={str(path)!r}"
    if not path.name or path.is_dir():
        raise OptionError(f"{given} is a folder: give the path of a file to write")
    if not path.parent.is_dir():
        raise OptionError(f"{given}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OptionError(f"{given}: its folder may not be written to; give another")
    if path.exists() and not _is_report(path):
        raise OptionError(f"{given} exists and is no report of a run: give another path")


def _is_report(path: Path) -> bool:
    if not path.is_file():  # a pipe would be waited for
        return False
    if path.stat().st_size == 0:  # as mktemp makes it
        return True
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"output", "state", "regions"} <= found.keys()
