"""Opening Zarr groups and arrays by path or URL, with one clear error for each way it can fail.

Arrays on the local file system are decoded by the ``zarrs`` pipeline (Rust, about twice as fast as
zarr-python's own) when it is installed; elsewhere, and without it, by zarr-python.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from slidefusion.errors import (
    OptionError,
    PlaceError,
    ProcessingError,
    StackError,
    UnknownNameError,
)
from slidefusion.files import is_zarr
from slidefusion.omezarr.access import cause_of
from slidefusion.omezarr.plain_shards import has_plain_shards
from slidefusion.omezarr.remote import check_url, url_store
from slidefusion.tasks.outcomes import came_from_store, is_out_of_reach

if TYPE_CHECKING:
    import zarr

__all__ = [
    "codec_pipeline",
    "create_group",
    "is_url",
    "location",
    "open_array",
    "open_group",
]

# zarr's configuration belongs to the process, not to a thread: one that opens with another thread's
# settings, or restores them late, would leave them behind for everybody.
_CONFIGURING = threading.RLock()
# zarrs says so of codecs that it leaves to zarr-python, whose pixels are the same.
warnings.filterwarnings("ignore", "Array is unsupported by ZarrsCodecPipeline", UserWarning)


def is_url(path: str) -> bool:
    """Whether ``path`` is a URL (``s3://…``, ``https://…``) and no local path.

    >>> is_url("s3://bucket/slide.zarr"), is_url("C:/slides/a.zarr"), is_url("a.zarr")
    (True, False, False)
    """
    scheme, separator, _ = path.partition("://")
    return bool(separator) and len(scheme) > 1 and scheme != "file"


def location(path: str | os.PathLike[str]) -> str:
    """The absolute local path, or the URL unchanged.

    Raises
    ------
    OptionError
        It is empty, neither a string nor a path, no name that a file can have, or a URL of no
        known kind.

    >>> location("s3://bucket/slide.zarr/"), location("file://localhost/data/slide.zarr")
    ('s3://bucket/slide.zarr', '/data/slide.zarr')
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not text or not isinstance(text, str):
        raise OptionError(f"{path!r} is no place for a store: give a path or URL")
    if text.startswith("file://"):
        path = text.removeprefix("file://")
        text = unquote(path.removeprefix("localhost") if path.startswith("localhost/") else path)
    if not is_url(text := text.removeprefix("local://")):
        return _absolute(text)
    check_url(text)
    return text.rstrip("/")


def _absolute(text: str) -> str:
    try:
        path = Path(text).expanduser()
        path = path if path.is_absolute() else Path.cwd() / path
    except RuntimeError as error:  # there is no such user's home
        reason = str(error)
    except OSError:
        reason = "the working directory, which it counts from, is gone"
    else:
        try:
            path.lstat()
            return str(path)
        except ValueError as error:  # a NUL in it
            reason = str(error)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # nothing there, say, as for an output
                return str(path)
            reason = "it is too long"
    raise OptionError(f"{text[:80]!r} is no path that a store can have ({reason}): give another")


def check_name(where: str) -> None:
    """Refuse a place where zarr, whose names are UTF-8, cannot make a store.

    Raises :class:`OptionError`.
    """
    try:
        where.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"{where!r} is no path that a store can be made at (it is not UTF-8): give another"
        ) from None


@contextlib.contextmanager
def codec_pipeline(where: str, *, fast: bool = True) -> Iterator[None]:
    """Within it, Zarr arrays of ``where`` are opened with the fastest codecs installed."""
    import zarr

    # zarrs reads local files itself; of other stores it supports a few, and warns about the rest.
    fast = fast and not is_url(where) and _has_zarrs()
    settings: dict[str, Any] = {"array.write_empty_chunks": True}
    if _forked:  # maybe while its parent was opening an array
        settings["codec_pipeline.path"] = "zarr.core.codec_pipeline.BatchedCodecPipeline"
    if fast:
        _start_zarr_threads()
        settings["codec_pipeline.path"] = "zarrs.ZarrsCodecPipeline"
        # One thread an array: the tasks run side by side already, and several would put the chunks
        # into a shard in whatever order they finish, so that equal runs gave unequal files.
        settings["threading.max_workers"] = 1
    with _CONFIGURING, zarr.config.set(settings):
        yield


@functools.cache
def _has_zarrs() -> bool:
    """Whether zarrs is installed and works: after a fork it waits for ever for its threads."""
    return not _forked and importlib.util.find_spec("zarrs") is not None


_forked = False


def _after_fork() -> None:
    global _forked, _CONFIGURING
    _forked = True
    _CONFIGURING = threading.RLock()  # another thread may have held it
    _has_zarrs.cache_clear()
    open_array.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _start_zarr_threads() -> None:
    """Let zarr make its thread pool, which all arrays share.

    It takes its size, at its first use, from the setting that zarrs takes for the threads of one
    array; a pool of one thread would make all tasks of the process wait for each other.
    """
    import zarr

    with zarr.config.set({"threading.max_workers": min(32, (os.cpu_count() or 1) + 4)}):
        zarr.create_group(zarr.storage.MemoryStore())


def _store(where: str, mode: str) -> str | zarr.storage.FsspecStore:
    return url_store(where, read_only=mode == "r") if is_url(where) else where


def open_group(path: str | os.PathLike[str], mode: str = "r") -> zarr.Group:
    """Open the Zarr group (v2 or v3) at a path or URL.

    Raises
    ------
    UnknownNameError
        Nothing is there.
    StackError
        Something is there, but no Zarr group.
    ProcessingError
        The place cannot be reached.
    """
    import zarr
    import zarr.errors

    where = location(path)
    if not is_url(where):
        _check_local(where)
    try:
        with codec_pipeline(where):
            return zarr.open_group(_store(where, mode), mode=mode)  # type: ignore[arg-type]
    except (
        FileNotFoundError,
        zarr.errors.GroupNotFoundError,
        zarr.errors.ContainsArrayError,
    ) as error:
        if is_url(where):
            raise UnknownNameError(f"there is no Zarr group at {where}") from error
        if isinstance(error, zarr.errors.ContainsArrayError) or Path(where, ".zarray").exists():
            raise StackError(
                f"{where} is a Zarr array: give the group around it that holds 'multiscales'; of "
                "a bare array give zarr.open_array(...) to slidefusion.fuse in Python"
            ) from error
        raise StackError(
            f"{where} is no Zarr group (its metadata is missing); give the group that holds "
            "'multiscales', or convert the source with slidefusion convert"
        ) from error
    except ImportError as error:
        raise StackError(f"{where} needs another package: {error}") from error
    except Exception as error:  # each object store has exceptions of its own
        of_zarr = isinstance(error, (*_OF_ZARR, zarr.errors.BaseZarrError))
        if of_zarr and not came_from_store(error):
            raise StackError(
                f"the Zarr metadata of {where} is damaged: {cause_of(error)}"
            ) from error
        raise ProcessingError(
            f"cannot open {where}: {cause_of(error)}; check its address, the connection, and your "
            "credentials and settings for such stores"
        ) from error


_OF_ZARR = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What zarr raises for metadata that are something else than they should be."""


def _check_local(where: str) -> None:
    path = Path(where)
    if not path.exists():
        raise UnknownNameError(f"there is nothing at {where}; check the path")
    if path.is_dir() and not is_zarr(path):
        raise StackError(
            f"{where} is a folder without Zarr metadata; of slides, slidefusion convert makes one"
        )
    if path.is_file():
        raise StackError(
            f"{where} is a file, not a Zarr store; make a stack of it with slidefusion convert"
        )


def create_group(path: str | os.PathLike[str], attributes: dict[str, Any]) -> zarr.Group:
    """Make an empty Zarr v3 group with these attributes.

    Raises
    ------
    PlaceError
        It cannot be made there.
    """
    import zarr

    where = location(path)
    try:
        return zarr.create_group(_store(where, "w-"), attributes=attributes, overwrite=False)
    except Exception as error:
        raise PlaceError(
            f"cannot create {where}: {cause_of(error)}; choose a place that can be written to"
        ) from error


@functools.lru_cache(maxsize=64)
def open_array(path: str, name: str, mode: str, stamp: str, fast: bool = True) -> zarr.Array[Any]:
    """Open the array ``name`` below the store at ``path``; kept open once a process.

    ``stamp`` stands for the array's metadata: an array made anew at an old path has another one,
    and so is never mistaken for the one that a process has open. With ``fast`` it is read by
    zarrs, if it can be, which does not check the checksum of a chunk of which it needs a part.

    Raises
    ------
    StackError
        There is no such array.
    ProcessingError
        The store does not answer.
    """
    import zarr

    try:
        with codec_pipeline(path, fast=fast):
            array = zarr.open_array(_store(path, mode), path=name, mode=mode)
            if not fast or _zarrs_can_read(array):
                return array
        with codec_pipeline(path, fast=False):
            return zarr.open_array(_store(path, mode), path=name, mode=mode)
    except Exception as error:
        message = f"the array {name!r} of {path} cannot be opened: {cause_of(error)}"
        if is_out_of_reach(error):
            raise ProcessingError(message) from error
        raise StackError(message) from error


def _zarrs_can_read(array: zarr.Array[Any]) -> bool:
    """It decodes into the byte order of the machine and in the order of C only, from shards that
    can be checked before (`has_plain_shards`)."""
    return (
        array.dtype.isnative
        and getattr(array.metadata, "order", "C") == "C"
        and has_plain_shards(array.metadata)
    )
