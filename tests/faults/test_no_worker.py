"""Clusters without workers, which Dask waits for without a word, and clients without a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slidefusion.errors import ProcessingError, SlidefusionWarning
from slidefusion.tasks import pools
from slidefusion.tasks.clients import active_client
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.scheduling import run_tasks


def _never_done(key: tuple[int, ...], outcome: Outcome) -> None:
    raise AssertionError("nothing can have been done")


def _never(job: Any, y: int, x: int) -> None:
    raise AssertionError("there is nobody to run this")


@pytest.mark.parametrize("job", [None, bytes(2**21)], ids=["small", "scattered"])
def test_it_is_said_and_then_given_up(monkeypatch: pytest.MonkeyPatch, job: Any) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(pools, "_REFRESH_SECONDS", 0.1)
    monkeypatch.setattr(pools, "_LONELY_SECONDS", 0.3)
    monkeypatch.setattr(pools, "_ABANDONED_SECONDS", 1.5)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        pytest.warns(SlidefusionWarning, match="no worker is left") as told,
        pytest.raises(ProcessingError, match="has had no worker that can run this for"),
    ):
        run_tasks(_never, job, [(0, 0)], name="fuse", client=client, on_outcome=_never_done)
    assert len(told) == 1


def test_an_asynchronous_client_is_refused_and_a_closed_one_is_none() -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:

        async def ask() -> None:
            options = {"asynchronous": True, "set_as_default": False}
            async with Client(cluster.scheduler_address, **options) as client:
                with pytest.raises(ProcessingError, match="is asynchronous, and its answers"):
                    active_client(client)

        asyncio.run(ask())
        with Client(cluster, set_as_default=False) as client, client.as_current():
            assert active_client(None) is client
            client.close()
            assert active_client(None) is None
            with pytest.raises(ProcessingError, match="is closed: open another one, or leave it"):
                active_client(client)
