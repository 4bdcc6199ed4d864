"""Shards as files: each appears whole or not at all; a torn one is told by its size and index.

A process that is killed while it writes a file leaves half of it. So a shard is written into a
scratch file inside the store, one for each thread, and renamed into its place when it is finished.
An object store shows an object only when it is whole.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.files import PARTIAL_SUFFIX
from slidefusion.omezarr.encode_shard import NOTHING, ShardKind
from slidefusion.omezarr.plain_shards import has_plain_shards
from slidefusion.omezarr.store import is_url, open_array
from slidefusion.tasks.outcomes import is_out_of_reach

if TYPE_CHECKING:
    import zarr

__all__ = [
    "SCRATCH_NAME",
    "check_indices",
    "chunks_of",
    "clear_scratch",
    "known_index",
    "shard_fault",
    "shard_path",
    "shards_of",
    "size_fault",
    "write_whole_shards",
]

SCRATCH_NAME = "slidefusion-scratch"
"""Folder in a store that is being written, where shards lie until they are whole."""


def write_whole_shards(
    where: str, name: str, stamp: str, index: tuple[slice, ...], block: npt.NDArray[Any]
) -> None:
    """Set ``index`` of the array ``name`` at ``where`` to ``block``; both cover whole shards."""
    if is_url(where):
        open_array(where, name, "r+", stamp)[index] = block
        return
    scratch = Path(where, SCRATCH_NAME, f"{_process_token(os.getpid())}-{threading.get_ident()}")
    scratch.parent.mkdir(exist_ok=True)
    kind = _kind_of_shards(where, name, stamp)
    for key, shard in kind.shards_of(index, block):
        target = Path(where, name, shard_path(key))
        try:
            with scratch.open("wb") as file:
                file.writelines(kind.encode(shard))
            try:
                scratch.replace(target)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                scratch.replace(target)
            except IsADirectoryError:  # of a damaged file system
                shutil.rmtree(target)
                scratch.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise


def chunks_of(array: zarr.Array[Any]) -> int:
    """How many chunks a shard of the array holds."""
    assert array.shards is not None
    return math.prod(s // c for s, c in zip(array.shards, array.chunks, strict=True))


@functools.lru_cache(maxsize=256)
def _kind_of_shards(where: str, name: str, stamp: str) -> ShardKind:
    """How the shards of a local array are made; ``stamp`` as in `open_array`."""
    return ShardKind.of(json.loads(Path(where, name, "zarr.json").read_bytes()))


@functools.cache
def _process_token(pid: int) -> str:
    return f"{socket.gethostname()}-{pid}-{uuid.uuid4().hex[:8]}"


def clear_scratch(where: str) -> None:
    """Delete what killed processes left in a local store: scratch folders, half metadata files."""
    if is_url(where):
        return
    shutil.rmtree(Path(where, SCRATCH_NAME), ignore_errors=True)
    for folder, folders, files in os.walk(where):
        if "c" in folders:  # the shards of an array
            folders.remove("c")
        for name in files:
            if name.endswith(PARTIAL_SUFFIX):
                Path(folder, name).unlink(missing_ok=True)


def shards_of(array: zarr.Array[Any], index: Sequence[slice]) -> Iterator[tuple[int, ...]]:
    """The shards that ``index`` touches, by their place in the grid; or chunks, without shards."""
    spans = []
    for at, length, side in zip(index, array.shape, array.shards or array.chunks, strict=True):
        start, stop, _ = at.indices(length)
        spans.append(range(start // side, -(-stop // side)))
    return itertools.product(*spans)


def shard_path(key: Sequence[int]) -> str:
    """Where the shard lies below its array.

    >>> shard_path((0, 3, 4))
    'c/0/3/4'
    """
    return "/".join(("c", *map(str, key)))


def size_fault(size: int, chunks: int) -> str | None:
    """Why a shard of ``size`` bytes cannot be whole, if it cannot even hold its index.

    >>> size_fault(0, 4)
    'has only 0 bytes'
    """
    return f"has only {size} bytes" if size < 16 * chunks + 4 else None


def shard_fault(path: Path, chunks: int) -> str | None:
    """Why the shard in this file cannot be whole, from its size and index; None when it can.

    ``chunks`` is how many it holds. Raises ``OSError`` when the file may not or cannot be read now.
    """
    try:
        _read_index(path, chunks)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        if is_out_of_reach(error):
            raise
        return f"cannot be read ({error.strerror or error})"
    except ValueError as error:
        return str(error)
    return None


def _read_index(path: Path, chunks: int) -> npt.NDArray[np.uint64]:
    """Where each of the shard's chunks lies: (chunks, 2), offset and size in bytes.

    A shard ends with that, and a checksum of it, so one that was cut off at any point, or filled
    with zeros by a power cut, is told without reading the rest.

    Raises
    ------
    ValueError
        Saying why the shard cannot be whole.
    """
    import google_crc32c

    index_bytes = 16 * chunks
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if reason := size_fault(size, chunks):
            raise ValueError(reason)
        file.seek(size - index_bytes - 4)
        tail = file.read()
    index, checksum = tail[:index_bytes], int.from_bytes(tail[index_bytes:], "little")
    if google_crc32c.value(index) != checksum:
        raise ValueError("has a damaged index")
    places = np.frombuffer(index, "<u8").reshape(-1, 2)
    held = places[places[:, 0] != NOTHING]
    # Each first: the sum of two that are absurd may look sound.
    if len(held) and max(int(held.max()), int(held.sum(axis=1).max())) > size - index_bytes - 4:
        raise ValueError("is cut off")
    return places


def check_indices(where: str, name: str, array: zarr.Array[Any], index: Sequence[slice]) -> None:
    """Refuse shards of a local array whose index points beyond them, before they are read.

    A shard that is not there is none of these, and reads as the fill value.

    Raises
    ------
    ValueError
        Naming the shard and what is wrong.
    """
    if array.shards is None or is_url(where) or not has_plain_shards(array.metadata):
        return
    for key in shards_of(array, index):
        path = Path(where, name, array.metadata.encode_chunk_key(key))
        try:
            stat = path.stat()
        except OSError:
            continue
        try:
            known_index(path, chunks_of(array), stat.st_mtime_ns, stat.st_size)
        except ValueError as error:
            raise ValueError(f"the shard {path.relative_to(where)} {error}") from error


@functools.lru_cache(maxsize=4096)
def known_index(
    path: Path, chunks: int, changed_ns: int, size_bytes: int
) -> npt.NDArray[np.uint64]:
    """Where the chunks of a shard lie, as the file was at that time: (chunks, 2), offset and size.

    Raises
    ------
    ValueError
        Saying why the shard cannot be whole.
    """
    return _read_index(path, chunks)
