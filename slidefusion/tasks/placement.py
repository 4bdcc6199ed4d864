"""GPU fusers run only on workers that have a GPU, and are refused where there is none.

A worker says so itself: ``dask worker … --resources "GPU=1"``, and so must ``dask cuda worker``.
What Dask was seen to do with that: ``client.submit(resources=)`` is honoured, and so is
``image.compute(resources={"GPU": 1})``; ``dask.annotate`` around the making of an array is not: its
annotations are lost when the graph is optimised. So the regions of a slide that is written are
submitted with resources, and a task of a lazy image refuses to run on a worker without.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from slidefusion.errors import ProcessingError
from slidefusion.fuser import Fuser
from slidefusion.tasks.pools import has_resources, workers_of

__all__ = ["GPU", "check_placement", "refuse_wrong_worker", "resources_for", "worker_bytes"]

GPU: Mapping[str, float] = {"GPU": 1}
"""What a worker with a GPU declares."""


def resources_for(fuser: Fuser) -> Mapping[str, float] | None:
    """What a worker must declare to run this fuser; None when any will do."""
    on_cpu = str(fuser.device).partition(":")[0] in ("cpu", "torch-cpu")
    return None if on_cpu else GPU


def worker_bytes(client: Any | None, fuser: Fuser) -> int | None:
    """Memory in bytes of the smallest worker that this fuser may run on.

    None when nobody knows: without a cluster, or when its workers have no limit.

    Raises
    ------
    ProcessingError
        When the scheduler does not answer.
    """
    if client is None:
        return None
    resources = resources_for(fuser) or {}
    workers = (w for w in workers_of(client).values() if has_resources(w, resources))
    return min((int(w["memory_limit"]) for w in workers if w.get("memory_limit")), default=None)


def check_placement(fuser: Fuser, client: Any | None) -> None:
    """Refuse a GPU fuser on a cluster without a GPU, before anything is sent.

    Raises
    ------
    ProcessingError
        When no worker declares the resource ``GPU``.
    """
    resources = resources_for(fuser)
    if client is None or resources is None:
        return
    workers = workers_of(client)
    if not any(has_resources(worker, resources) for worker in workers.values()):
        raise ProcessingError(
            f"fuser {fuser.name!r} runs on {fuser.device!r}, and none of the cluster's "
            f"{len(workers)} workers declares the resource GPU: start one with dask worker … "
            '--resources "GPU=1" (dask cuda worker too), wait for it with '
            "client.wait_for_workers, or choose device='cpu'"
        )


def refuse_wrong_worker(fuser: Fuser) -> None:
    """In a task of a lazy image: refuse to run a GPU fuser on a worker without a GPU.

    Raises
    ------
    ProcessingError
        When this is a worker of a cluster that does not declare the resource ``GPU``.
    """
    resources = resources_for(fuser)
    if resources is None or "distributed" not in sys.modules:
        return
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # threads of an ordinary process
        return
    if not has_resources({"resources": worker.state.total_resources}, resources):
        raise ProcessingError(
            f"fuser {fuser.name!r} runs on {fuser.device!r}, and the worker {worker.address} "
            'declares no resource GPU: compute the lazy image with .compute(resources={"GPU": 1}), '
            "or write it with fuse(..., out=...), which chooses the workers by itself"
        )
