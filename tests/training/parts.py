"""What processes do in the tests of training on several devices; found by them under its name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def rank() -> int:
    return int(os.environ["LOCAL_RANK"])


def raise_in_the_second(what: Exception, report: Any) -> None:
    report("begun", os.getpid())
    if rank() == 1:
        raise what
    time.sleep(600)


def die_in_the_second(folder: Path, report: Any) -> None:
    (folder / str(os.getpid())).touch()
    if rank() == 1:
        os._exit(9)
    time.sleep(600)


def wait(folder: Path, report: Any) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def train_and_compare(job: Any, report: Any) -> dict[str, Any]:
    """Train; the parameters, and the crops of step 0, of both processes."""
    import torch

    from slidefusion.training import trainer

    fabric = trainer._fabric(job.learner.recipe, 2, "cpu")
    trainer._train(job, fabric, report)
    gathered = {
        name: fabric.all_gather(torch.cat([p.detach().flatten() for p in module.parameters()]))
        for name, module in job.learner.modules.items()
    }
    gathered["crops"] = fabric.all_gather(job.learner.sample(0, rank())["truth"])
    return gathered
