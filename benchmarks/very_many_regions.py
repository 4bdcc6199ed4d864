"""A run of very many regions with nothing to do, through the library's own scheduling.

Memory grows at first, and no longer once Dask's own logs are full: each end of a connection keeps
its last 1000 messages (``distributed.admin.low-level-log-length``).
"""

from __future__ import annotations

import os
import time
from itertools import product
from pathlib import Path
from typing import Any

from processes import processor_seconds, resident_mb

WANTED_MS_A_REGION = 1.0


def nothing(job: Any, row: int, column: int) -> Any:
    """A region with nothing to do; returns what real ones return."""
    from slidefusion.tasks.costs import Cost

    return Cost()


def run_regions(address: str, scheduler: int, count: int, folder: Path) -> None:
    """In a process of its own: the regions, with journal and report as a real run has them."""
    from distributed import Client

    from slidefusion.omezarr.journal import Journal
    from slidefusion.tasks.outcomes import Outcome
    from slidefusion.tasks.report import RunReport
    from slidefusion.tasks.scheduling import run_tasks

    columns = max(1, round(count**0.5))
    keys = list(product(range(count // columns), range(columns)))
    index = {key: k for k, key in enumerate(keys)}
    journal = Journal.open(str(folder), {}, len(keys))
    report = RunReport("scale", str(folder), len(keys), 0, 0.0)
    with Client(address, set_as_default=False) as client:
        pids = [os.getpid(), scheduler, *client.run(os.getpid).values()]
        names = ["client", "scheduler", *(f"worker {k}" for k in range(len(pids) - 2))]
        marks = {round(len(keys) * k / 16) for k in range(1, 17)}
        submitted = 0
        submit = client.submit

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal submitted
            submitted += 1
            return submit(*arguments, **options)

        client.submit = counted
        print(f"{len(keys)} regions; memory in MB\n{'regions':>10}{'s':>8}", end="")
        print("".join(f"{name:>11}" for name in names), flush=True)
        memory: list[list[float]] = []

        def on_outcome(key: tuple[int, ...], outcome: Outcome) -> None:
            report.note(f"row {key[0]}, column {key[1]}", outcome)
            if outcome.verdict != "done":
                return
            journal.mark(index[key])
            if report.finished in marks:
                memory.append([resident_mb(pid) for pid in pids])
                print(f"{report.finished:10d}{time.perf_counter() - clock:8.1f}", end="")
                print("".join(f"{mb:11.0f}" for mb in memory[-1]), flush=True)

        before = [processor_seconds(pid) for pid in pids]
        clock = time.perf_counter()
        run_tasks(nothing, None, keys, client=client, name="scale", on_outcome=on_outcome)
        wall_ms = 1e3 * (time.perf_counter() - clock) / len(keys)
        busy = [processor_seconds(pid) - b for pid, b in zip(pids, before, strict=True)]
    busy_ms = [1e3 * seconds / len(keys) for seconds in busy]
    print(f"\n{submitted} tasks were sent, {len(keys) / submitted:.1f} regions each")
    print(
        f"a region takes {wall_ms:.3f} ms of wall time (wanted: less than {WANTED_MS_A_REGION:.0f})"
    )
    print(
        "and processor ms of",
        ", ".join(f"{n} {b:.3f}" for n, b in zip(names, busy_ms, strict=True)),
    )
    for k, name in enumerate(names):
        sizes = [row[k] for row in memory]
        late = sizes[-1] - sizes[len(sizes) // 2 - 1]
        print(f"{name}: {min(sizes):.0f} to {max(sizes):.0f} MB, {late:+.1f} in the second half")
    assert report.finished == len(keys) and bool(journal.done.all())
