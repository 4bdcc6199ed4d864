"""What a source is at the moment, so that one that changed since is noticed."""

from __future__ import annotations

import contextlib
import glob
from pathlib import Path
from typing import Any

from slidefusion.errors import ReaderError, StackError, UnknownNameError
from slidefusion.files import ZARR_NAMES, is_zarr
from slidefusion.omezarr.access import reading
from slidefusion.omezarr.store import is_url
from slidefusion.stack_inputs import as_stack
from slidefusion.tasks.outcomes import may_pass

__all__ = ["is_zarr_source", "stamps"]

_SAID = (
    *("size", "ETag", "Content-MD5", "Last-Modified", "LastModified", "last_modified"),
    *("etag", "mtime", "updated", "generation", "md5Hash", "content_md5", "created"),
)
"""What file systems say of an object, by the names that they have for it."""


def is_zarr_source(source: str) -> bool:
    """Whether a source is a Zarr store; of a URL its name tells."""
    if is_url(source):
        return source.rstrip("/").endswith(".zarr")
    return is_zarr(source)


def stamps(source: str) -> list[Any]:
    """What tells a source from another one at its place; JSON-able.

    Of an OME-Zarr stack it is what a run that fuses it is recognised by; of files their names,
    sizes and times; of an object at a URL what its store says of it without reading it.

    Raises
    ------
    UnknownNameError
        Nothing is at the URL.
    ProcessingError
        It cannot be looked at.
    """
    if is_zarr_source(source):
        try:
            return [as_stack(source).identity]
        except (ReaderError, StackError):  # no stack as it is; what lies there may tell
            with contextlib.suppress(UnknownNameError):
                return _of_object(source) if is_url(source) else _of_files(source)
            return []
        except UnknownNameError:
            if is_url(source):
                raise
    return _of_object(source) if is_url(source) else _of_files(source)


def _of_files(source: str) -> list[Any]:
    path = Path(source)
    with reading(f"the source {source}"):  # a link to nothing among its files, say
        if path.is_file():
            files = [path]
        elif is_zarr_source(source):
            names = (*ZARR_NAMES, ".zattrs")  # which holds what a store of version 2 says of itself
            files = [path / name for name in names if (path / name).is_file()]
        elif path.is_dir():
            files = sorted(child for child in path.iterdir() if child.is_file())
        else:
            files = sorted(Path(name) for name in glob.glob(source))  # noqa: PTH207
        return [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]


def _of_object(url: str) -> list[Any]:
    import fsspec

    with reading(f"the source {url}"):
        filesystem, path = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        try:
            said = filesystem.info(path)
        except FileNotFoundError as error:
            cause = error.__cause__
            if cause is not None and may_pass(cause) == "retry":
                raise cause from None  # so is a web server that does not answer
            raise UnknownNameError(f"there is nothing at the source {url}") from None
    return [[url, *(f"{name}={said[name]}" for name in _SAID if name in said)]]
