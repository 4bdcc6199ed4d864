"""Zarr stores at URLs: one asynchronous file system a process, its connections closed at exit.

zarr runs all stores in one event loop of its own. fsspec makes an asynchronous file system for each
thread that asks for one, keeps it for ever and never closes its HTTP session (only synchronous ones
close themselves). So file systems are asked for in the loop that they serve, which gives one for
each set of options, and are closed there.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from slidefusion.errors import OptionError, near_match

if TYPE_CHECKING:
    from fsspec.asyn import AsyncFileSystem
    from zarr.storage import FsspecStore, StorePath

__all__ = ["check_url", "close_connections", "url_exists", "url_store"]

_CLOSE_SECONDS = 5.0
"""A server that does not answer must not hold up the end of the process for longer."""

_PASSWORD = re.compile(r"://[^:/@]*:(?!\d+/)[^@]*@")
"""Of a URL, or of one behind it (``zip://…::https://…``); what is no port before a path."""

_used: dict[int, AsyncFileSystem] = {}


def check_url(url: str) -> None:
    """Raise :class:`~slidefusion.errors.OptionError` for a URL that no store should be opened by.

    That is one of a kind that nothing can open, of no place, or with a password, which would be
    written wherever the store is named: logs, errors, and the provenance of slides.
    """
    from fsspec.registry import known_implementations, registry

    whole, _, rest = url.partition("://")
    scheme = whole.rpartition("::")[2]
    if not rest.strip("/"):
        raise OptionError(
            f"{url!r} names no bucket, host or path: give one, such as {scheme}://…/slide.zarr"
        )
    if _PASSWORD.search(url):
        raise OptionError(
            f"the URL {scheme}://…@{rest.rpartition('@')[2]} has a password in it, which would be "
            "written into logs and slides: leave it out, and give it to the store's library in its "
            "environment variables or configuration (deploy/README.md)"
        )
    if scheme not in known_implementations and scheme not in registry:
        raise OptionError(
            f"{url}: there is no store of the kind {scheme!r}"
            f"{near_match(scheme, known_implementations)}; give a local path, or a URL such as "
            "s3://bucket/slide.zarr or https://host/slide.zarr, or install the package for it"
        )


def url_store(where: str, *, read_only: bool) -> FsspecStore:
    """The store at a URL; credentials come from where its library looks for them.

    Raises
    ------
    ImportError
        When the package for this kind of URL is not installed.
    """
    from slidefusion.omezarr.ranged_store import RangedStore

    async def make() -> FsspecStore:
        return RangedStore.from_url(where, read_only=read_only)

    store: FsspecStore = _in_zarr_loop(make())
    if not _used:
        atexit.register(close_connections)  # after zarr's own, so called before it
    _used[id(store.fs)] = store.fs
    return store


def url_exists(place: StorePath) -> bool:
    """Whether there is an object at a place in a store; raises what a store that is busy raises.

    Asking fsspec whether it exists would call what does not answer at the moment missing.
    """
    return _in_zarr_loop(place.get()) is not None


def close_connections() -> None:
    """Close the HTTP sessions of all stores opened so far; using one again opens another."""
    while _used:
        _, filesystem = _used.popitem()
        with contextlib.suppress(Exception):  # there is nothing to be done about it, nor lost by it
            if _connect(filesystem) is not None:
                _in_zarr_loop(_close(filesystem), _CLOSE_SECONDS)
            else:
                _finalize(filesystem)


def _finalize(filesystem: AsyncFileSystem) -> None:
    """Have a file system close itself, while there is the loop that it does so in.

    Azure's does so by a finalizer, which Python calls after zarr has ended its loop: a traceback
    at the end of every process.
    """
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        found = finalizer.peek()
        if found is not None and found[0] is filesystem:
            finalizer()


def _connect(filesystem: AsyncFileSystem) -> Any:
    """What gives its HTTP session, if it has one to close."""
    # s3fs and HTTP call it the first, gcsfs the second.
    return getattr(filesystem, "set_session", None) or getattr(filesystem, "_set_session", None)


async def _close(filesystem: AsyncFileSystem) -> None:
    session = await _connect(filesystem)()
    await session.close()
    for name in ("_session", "_s3"):  # where it is kept; fsspec keeps the file system, too
        if getattr(filesystem, name, None) is session:
            setattr(filesystem, name, None)


def _in_zarr_loop(coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
    from zarr.core.sync import sync

    return sync(coroutine, timeout=seconds)
