"""How far a batch is: a table on the terminal that changes, and nothing where there is none."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from slidefusion.batch.status import SlideStatus, StatusTable
from slidefusion.progress import is_terminal

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["live_table"]

_RECENT = 8
_FAILURES = 5
_STYLES = {"done": "green", "failed": "red", "running": "cyan"}


@contextlib.contextmanager
def live_table(
    total: int, before: int, table: StatusTable, *, enabled: bool
) -> Iterator[Callable[[SlideStatus], None]]:
    """Show slides in work, those that ended last, and failures; yields what is told of each end."""
    if not (enabled and is_terminal(sys.stderr)):
        yield lambda status: None
        return
    from rich.console import Console
    from rich.live import Live

    view = _View(total, before, table)
    with Live(
        get_renderable=view.render, console=Console(stderr=True), refresh_per_second=2
    ) as live:
        yield view.note
        live.refresh()


class _View:
    def __init__(self, total: int, before: int, table: StatusTable) -> None:
        self.total, self.before, self.table = total, before, table
        self.ended = self.failed = 0
        self.recent: deque[SlideStatus] = deque(maxlen=_RECENT)
        self.failures: deque[SlideStatus] = deque(maxlen=_FAILURES)
        self.began = time.monotonic()

    def note(self, status: SlideStatus) -> None:
        """A slide ended."""
        self.ended += 1
        if status.state == "failed":
            self.failed += 1
            self.failures.append(status)
        else:
            self.recent.append(status)

    def render(self) -> Table:
        """The table as it is now."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title(), title_justify="left", expand=True)
        table.add_column("slide", no_wrap=True, overflow="ellipsis", ratio=2)
        table.add_column("state", no_wrap=True)
        table.add_column("seconds", justify="right", no_wrap=True)
        table.add_column("attempt", justify="right", no_wrap=True)
        table.add_column("reason", overflow="ellipsis", no_wrap=True, ratio=3)
        for status in (*self.failures, *self.recent, *self.table.running()):
            seconds = "" if status.state == "running" else f"{status.seconds:.1f}"
            table.add_row(
                Text(status.out.rpartition("/")[2]),  # which is no markup, whatever brackets it has
                Text(status.state, style=_STYLES.get(status.state, "")),
                seconds,
                str(status.attempts),
                Text(status.error),
            )
        return table

    def _title(self) -> str:
        done = self.before + self.ended - self.failed
        left = self.total - self.before - self.ended
        text = f"{done} of {self.total} slides done, {self.failed} failed, {left} left"
        if self.ended and left:
            seconds = (time.monotonic() - self.began) / self.ended * left
            text += (
                f", about {seconds / 60:.0f} min" if seconds > 90 else f", about {seconds:.0f} s"
            )
        return text
