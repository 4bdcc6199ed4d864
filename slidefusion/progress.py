"""A progress bar on the terminal, and nothing where there is none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(
    label: str, total: int, done: int = 0, *, enabled: bool = True
) -> Iterator[Callable[[], None]]:
    """Show how many of ``total`` regions are finished; yields a function to call after each.

    Nothing is drawn when ``enabled`` is false or standard error is no terminal.

    >>> with progress_bar("fusing", 2, enabled=False) as advance:
    ...     advance()
    """
    if not (enabled and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("regions"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda: bar.advance(task)
