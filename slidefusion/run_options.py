"""How a run that writes an output goes about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidefusion.errors import OptionError

__all__ = ["RunOptions"]


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
    report: str | Path | None = None
    """Local JSON file to write, with times, bytes, retries and memory."""

    def __post_init__(self) -> None:
        if not isinstance(self.retries, int) or self.retries < 0:
            raise OptionError(
                f"retries={self.retries!r}: how often a region is tried again, a whole number from "
                "0 on"
            )
        if self.report is not None and (not Path(self.report).name or Path(self.report).is_dir()):
            raise OptionError(
                f"report={str(self.report)!r} is a folder: give the path of a file to write"
            )
