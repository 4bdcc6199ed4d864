"""The report counts everything, and lists the first failures only."""

from __future__ import annotations

import json
from pathlib import Path

from slidefusion.errors import ProcessingError
from slidefusion.tasks.costs import Cost
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.report import RunReport


def test_all_failures_are_counted_and_the_first_listed(tmp_path: Path) -> None:
    report = RunReport("fuse", "out.zarr", total=400, before=10, megapixels=1.0)
    for number in range(150):
        error = ProcessingError(f"no {number}")
        report.note(f"region {number}", Outcome("fail", error, worker="a", attempt=2))
    report.note("region 150", Outcome("done", value=Cost(read_bytes=7), worker="b", seconds=0.5))
    report.note("region 151", Outcome("retry", ProcessingError("once"), worker="b"))
    report.write(tmp_path / "report.json", "failed")
    said = json.loads((tmp_path / "report.json").read_text())
    assert said["regions"] == {
        "total": 400, "finished_before": 10, "finished": 1, "failed": 150, "retries": 1
    }  # fmt: skip
    assert [f["region"] for f in said["failures"]] == [f"region {n}" for n in range(100)]
    assert said["failures"][0] == {"region": "region 0", "attempts": 3, "error": "no 0"}
    assert said["bytes"]["read"] == 7 and said["workers"]["b"]["regions"] == 1
    assert "failed=150" in report.summary()
