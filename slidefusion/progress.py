"""A progress bar on the terminal, and nothing where there is none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

__all__ = ["is_terminal", "progress_bar"]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at what is written there; None is what is closed from the start."""
    return stream is not None and stream.isatty()


@contextlib.contextmanager
def progress_bar(
    label: str,
    total: int,
    done: int = 0,
    *,
    enabled: bool = True,
    megapixels: float | None = None,
) -> Iterator[Callable[[], None]]:
    """Show how many of ``total`` regions are finished; yields a function to call after each.

    With ``megapixels``, those of all regions together, the bar shows the throughput, too. Nothing
    is drawn when ``enabled`` is false or standard error is no terminal.

    >>> with progress_bar("fusing", 2, enabled=False) as advance:
    ...     advance()
    """
    if not (enabled and is_terminal(sys.stderr)):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Throughput(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(throughput(task.completed - done, total, task.elapsed, megapixels))

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("regions"),
        Throughput(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda: bar.advance(task)


def throughput(finished: float, total: int, seconds: float | None, megapixels: float | None) -> str:
    """Megapixels a second since the start, as text; empty while nothing is known.

    >>> throughput(5, 10, 2.0, 400.0)
    '100.0 MP/s'
    """
    if not (megapixels and seconds and finished > 0):
        return ""
    return f"{megapixels * finished / total / seconds:.1f} MP/s"
