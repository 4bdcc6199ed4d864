"""``slidefusion verify``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from slidefusion.cli.shared_options import ClientOption, ProgressOption, cluster
from slidefusion.errors import ProcessingError
from slidefusion.wording import counted

__all__ = ["verify"]

_SHOWN = 20


def verify(
    store: Annotated[str, typer.Argument(help="OME-Zarr stack or slide: a path or URL.")],
    client: ClientOption = None,
    progress: ProgressOption = True,
) -> None:
    """Read a finished stack or slide again and list what is damaged.

    Every shard of every level is read and decoded, and each level compared with the one below it.
    Nothing is changed; repeat the command that wrote the store with --verify to repair it.

    \b
    Examples:
      slidefusion verify slide.zarr
      slidefusion verify s3://bucket/slide.zarr && echo whole
    """
    from slidefusion.verbs.verify import verify as run

    started = time.perf_counter()
    with cluster(client) as connected:
        damages = run(store, client=connected, progress=progress)
    for damage in damages[:_SHOWN]:
        print(damage)
    if len(damages) > _SHOWN:
        print(f"… and {len(damages) - _SHOWN} more")
    if damages:
        raise ProcessingError(
            f"{store}: {counted(len(damages), 'damaged place')}; repeat the command "
            "that wrote it with --verify to make them anew"
        )
    print(f"{store}: whole, {time.perf_counter() - started:.1f} s")
