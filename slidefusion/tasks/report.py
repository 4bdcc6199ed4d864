"""What a run did, and what it took: a JSON file beside the result, and lines in the log."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from slidefusion.errors import OutputError
from slidefusion.files import replace_file
from slidefusion.tasks.costs import Cost
from slidefusion.tasks.outcomes import Outcome

__all__ = ["RunReport"]

_LOG = logging.getLogger("slidefusion")
_FAILURES_LISTED = 100


class RunReport:
    """Adds up the costs of tasks; ``write`` makes the file.

    Parameters
    ----------
    run
        Name of the tasks.
    output
        Where the output is.
    total, before
        All regions, and those that an earlier run finished.
    megapixels
        Of the whole output at level 0, times the planes that are read for it.
    """

    def __init__(self, run: str, output: str, total: int, before: int, megapixels: float) -> None:
        self.run, self.output = run, output
        self.total, self.before, self.megapixels = total, before, megapixels
        self.cost = Cost()
        self.task_s = 0.0
        self.finished = self.failed = self.retries = 0
        self.failures: list[dict[str, Any]] = []
        self.workers: defaultdict[str, dict[str, float]] = defaultdict(
            lambda: {"regions": 0, "retries": 0, "peak_memory_bytes": 0, "task_s": 0.0}
        )
        self.stored_bytes: int | None = None
        self.verified: str | None = None
        self._began = datetime.datetime.now(datetime.UTC)
        self._clock = time.monotonic()

    def note(self, region: str, outcome: Outcome) -> None:
        """Add one attempt at a region."""
        worker = self.workers[outcome.worker or "lost"]
        worker["peak_memory_bytes"] = max(worker["peak_memory_bytes"], outcome.peak_bytes)
        worker["task_s"] += outcome.seconds
        self.task_s += outcome.seconds
        cost = outcome.value if isinstance(outcome.value, Cost) else Cost()
        for field in dataclasses.fields(Cost):
            mine = getattr(self.cost, field.name)
            setattr(self.cost, field.name, mine + getattr(cost, field.name))
        if outcome.verdict == "done":
            self.finished += 1
            worker["regions"] += 1
        elif outcome.verdict == "retry":
            self.retries += 1
            worker["retries"] += 1
        else:
            self.failed += 1
            if self.failed <= _FAILURES_LISTED:
                self.failures.append(
                    {"region": region, "attempts": outcome.attempt + 1, "error": str(outcome.error)}
                )
        _LOG.debug(
            "task=%s region=%r state=%s attempt=%d worker=%s seconds=%.3f read_s=%.3f fuse_s=%.3f "
            "write_s=%.3f read_bytes=%d written_bytes=%d",
            self.run,
            region,
            outcome.verdict,
            outcome.attempt + 1,
            outcome.worker,
            outcome.seconds,
            cost.read_s,
            cost.fuse_s,
            cost.write_s,
            cost.read_bytes,
            cost.written_bytes,
        )

    def as_dict(self, state: str) -> dict[str, Any]:
        """The report, JSON-able; ``state`` is running, complete, failed or interrupted."""
        seconds = time.monotonic() - self._clock
        share = self.finished / self.total if self.total else 0.0
        cost = self.cost
        parts = cost.read_s + cost.fuse_s + cost.write_s
        return {
            "run": self.run,
            "output": self.output,
            "state": state,
            "began": self._began.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "regions": {
                "total": self.total,
                "finished_before": self.before,
                "finished": self.finished,
                "failed": self.failed,
                "retries": self.retries,
            },
            "task_seconds": {
                "all": round(self.task_s, 3),
                "read": round(cost.read_s, 3),
                "fuse": round(cost.fuse_s, 3),
                "write": round(cost.write_s, 3),
                "other": round(max(0.0, self.task_s - parts), 3),
            },
            "bytes": {
                "read": cost.read_bytes,
                "written": cost.written_bytes,
                "stored": self.stored_bytes,
            },
            "megapixel_planes": round(self.megapixels * share, 3),
            "megapixel_planes_per_second": round(self.megapixels * share / max(seconds, 1e-9), 3),
            "verified": self.verified,
            "workers": {
                name: {key: round(value, 3) for key, value in sorted(worker.items())}
                for name, worker in sorted(self.workers.items())
            },
            "failures": self.failures,
        }

    def write(self, path: str | os.PathLike[str], state: str) -> None:
        """Write the report as JSON to a local file, whole or not at all.

        Raises
        ------
        OutputError
            When it cannot be written there.
        """
        target = Path(path)
        try:
            with replace_file(target) as partial:
                partial.write_text(json.dumps(self.as_dict(state), indent=2) + "\n")
        except OSError as error:
            raise OutputError(
                f"the report cannot be written to {target}: {error.strerror or error}; give a "
                "file in a folder that exists and can be written to"
            ) from error

    def summary(self) -> str:
        """One line for the log."""
        found = self.as_dict("")
        parts = found["task_seconds"]
        return (
            f"task={self.run} regions={self.finished}/{self.total} retries={self.retries} "
            f"failed={self.failed} seconds={found['seconds']} read_s={parts['read']} "
            f"fuse_s={parts['fuse']} write_s={parts['write']} "
            f"mp_planes_per_s={found['megapixel_planes_per_second']}"
        )
