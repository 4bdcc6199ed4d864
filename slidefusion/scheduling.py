"""Running independent tasks: on this machine's threads, or on a cluster through its client.

The tasks return nothing worth keeping: each writes what it made. They are submitted to a cluster in
a bounded window, so that a million of them do not sit in its scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slidefusion.errors import ProcessingError, SlidefusionError

__all__ = ["active_client", "parallelism", "run_tasks"]

_WINDOW = 4
"""Tasks submitted ahead for each thread of a cluster."""


def active_client(client: Any | None) -> Any | None:
    """The client given, or else the one that Dask would use by itself, or None."""
    if client is not None:
        if not hasattr(client, "submit"):
            raise ProcessingError(
                f"client={client!r} is no dask.distributed.Client; give one, or None for threads"
            )
        return client
    import sys

    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def parallelism(client: Any | None) -> int:
    """How many tasks run at once in one process."""
    if client is None:
        import dask
        from dask.system import CPU_COUNT

        return int(dask.config.get("num_workers", None) or CPU_COUNT)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return max((int(worker["nthreads"]) for worker in workers), default=1)


def run_tasks(
    function: Callable[..., Any],
    job: Any,
    keys: Sequence[tuple[int, ...]],
    *,
    client: Any | None,
    name: str,
    on_done: Callable[[tuple[int, ...]], None],
) -> None:
    """Call ``function(job, *key)`` for every key; ``on_done(key)`` in this thread after each.

    Raises
    ------
    SlidefusionError
        What a task raised; an error that is not ours becomes a ``ProcessingError`` naming the task.
    """
    if not keys:
        return
    if client is None:
        _on_threads(function, job, keys, name, on_done)
    else:
        _on_cluster(function, job, keys, client, name, on_done)


def _call(function: Callable[..., Any], job: Any, name: str, key: tuple[int, ...]) -> None:
    try:
        function(job, *key)
    except SlidefusionError:
        raise
    except MemoryError as error:
        raise ProcessingError(
            f"{name} {key}: out of memory; pass a smaller chunks= or run fewer tasks at a time"
        ) from error
    except Exception as error:
        raise ProcessingError(f"{name} {key} failed: {type(error).__name__}: {error}") from error


def _on_threads(
    function: Callable[..., Any],
    job: Any,
    keys: Sequence[tuple[int, ...]],
    name: str,
    on_done: Callable[[tuple[int, ...]], None],
) -> None:
    import dask.threaded
    from dask.callbacks import Callback

    class Report(Callback):
        def _posttask(self, key: Any, *_: Any) -> None:
            on_done(key[1:])

    graph: dict[Any, Any] = {(name, *key): (_call, function, job, name, key) for key in keys}
    with Report():  # type: ignore[no-untyped-call]
        dask.threaded.get(graph, list(graph), num_workers=parallelism(None))


def _on_cluster(
    function: Callable[..., Any],
    job: Any,
    keys: Sequence[tuple[int, ...]],
    client: Any,
    name: str,
    on_done: Callable[[tuple[int, ...]], None],
) -> None:
    from distributed import as_completed

    # Sent once to every worker; a task then carries a reference and its key.
    shared = client.scatter(job, broadcast=True, hash=False)
    threads = sum(client.nthreads().values()) or 1
    waiting = iter(keys)
    running = as_completed(loop=client.loop)  # which need not be the default client
    keys_of = {}

    def submit() -> None:
        key = next(waiting, None)
        if key is not None:
            future = client.submit(_call, function, shared, name, key, key=(name, *key), pure=False)
            keys_of[future.key] = key
            running.add(future)

    for _ in range(_WINDOW * threads):
        submit()
    try:
        for future in running:
            future.result()  # raises what the task raised
            key = keys_of.pop(future.key)
            submit()
            on_done(key)
    finally:
        client.cancel(list(running.futures), force=True)
