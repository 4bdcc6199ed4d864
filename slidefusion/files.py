"""Files that are there whole or not at all, and the names of those that make a folder a Zarr.

A file is written beside its place, and renamed into it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from slidefusion.errors import OutputError

__all__ = [
    "CANNOT_WRITE",
    "PARTIAL_SUFFIX",
    "ZARR_NAMES",
    "clear_partials",
    "is_zarr",
    "local_folder",
    "replace_file",
]

CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Numbers of the errors of a place that is full or may not be written to."""
PARTIAL_SUFFIX = ".partial"
"""Ends the name of a file that is not whole yet; of a killed process it may stay behind."""
ZARR_NAMES = ("zarr.json", ".zgroup", ".zarray")
"""Files by which a folder is a Zarr group or array; ``.zattrs`` only says more of one."""
_LONGEST_NAME_BYTES = 200
"""Of a target that gives its name to the temporary file, which may not grow too long."""


def local_folder(out: str | os.PathLike[str]) -> Path:
    """The path of a folder to write.

    Raises :class:`~slidefusion.errors.OutputError` when it is a URL, of which a folder of that
    name would be made here.
    """
    text = os.fspath(out)
    if "://" in text:
        raise OutputError(f"{text} is a URL, and this is written on this machine: give a folder")
    return Path(text).expanduser()


@contextlib.contextmanager
def replace_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Replace the file at ``path`` by what is written, within it, to the path that it gives.

    That path lies in the same folder and is nobody else's, so several threads and processes may
    replace one file: the last one that ends wins. The new file has the permissions that any new
    file has. When an error leaves the context, the old file stays as it is, and what was written
    is removed.

    With ``durable`` the bytes are on the disk before the file takes its place.

    Raises
    ------
    OSError
        The file cannot be written, or cannot take its place.

    >>> with replace_file(Path("notes.txt")) as partial:  # doctest: +SKIP
    ...     partial.write_text("whole")
    """
    mark = uuid.uuid4().hex[:8]
    partial = path.with_name(f".{_known_as(path)}.{mark}{PARTIAL_SUFFIX}")
    try:
        yield partial
        if durable:
            with partial.open("r+b") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong before is what matters
            partial.unlink()
        raise


def clear_partials(path: Path) -> None:
    """Remove what processes that were killed left of replacing ``path``, as far as that can be.

    Nobody else may be replacing it meanwhile.
    """
    made = re.compile(rf"\.{re.escape(_known_as(path))}\.[0-9a-f]{{8}}{re.escape(PARTIAL_SUFFIX)}")
    with contextlib.suppress(OSError):
        for found in path.parent.iterdir():
            if made.fullmatch(found.name):
                found.unlink()


def _known_as(path: Path) -> str:
    """What temporary files are named after: the name of their target, or a digest of a long one."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME_BYTES else hashlib.sha256(name).hexdigest()


def is_zarr(folder: str | os.PathLike[str]) -> bool:
    """Whether there is a Zarr group or array, of version 2 or 3, at the root of a local folder.

    >>> is_zarr("nowhere.zarr")
    False
    """
    return any(Path(folder, name).is_file() for name in ZARR_NAMES)
