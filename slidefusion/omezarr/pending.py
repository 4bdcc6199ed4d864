"""What the event loops of zarr and fsspec have begun, and nobody waits for any more.

Of requests that are made together the first that fails is raised, and the others go on. At the end
of the process they are torn apart where they are, outside of the loop and of the context that they
ran in, and each tells of it with a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

__all__ = ["end_pending"]

_LOOPS = ("zarr.core.sync", "fsspec.asyn")
"""Modules that have their event loop as ``loop[0]``, once they have begun one."""
_SECONDS = 2.0
"""What does not end by then does not hold up the end of the process."""


def end_pending() -> None:
    """Cancel all of it, and wait until it has ended; for when no thread waits for a store."""
    for name in _LOOPS:
        loop = getattr(sys.modules.get(name), "loop", [None])[0]
        if loop is not None and loop.is_running():
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(_SECONDS)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
