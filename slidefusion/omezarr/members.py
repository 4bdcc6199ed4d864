"""Arrays and groups inside an opened Zarr group, with one clear error whatever their metadata say.

Opening a member makes zarr parse metadata that anybody may have written, and it raises whatever
its parsers raise. Groups are not opened as ``group[name]``, which fails under ``python -O``: there
zarr (3.1.6) takes the kind of a member out of its metadata within an assertion.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from slidefusion.errors import MemoryBudgetError, ProcessingError, SlidefusionError, StackError
from slidefusion.memory import available_bytes
from slidefusion.tasks.outcomes import is_out_of_reach

if TYPE_CHECKING:
    import zarr

__all__ = [
    "MISSING",
    "array_of",
    "check_chunk",
    "fault_of",
    "label_names",
    "made_group",
    "member",
    "metadata_fault",
    "metadata_of",
    "store_metadata",
]

MISSING = "is missing"
"""Said of metadata that are not there."""
_CHUNK_SHARE = 0.25
"""Part of the machine's memory that one chunk may take when it is decoded."""


@contextlib.contextmanager
def metadata_of(where: str) -> Iterator[None]:
    """Turns whatever reading the metadata of ``where`` raises into one error.

    Raises
    ------
    StackError
        They are damaged.
    ProcessingError
        The store does not answer, or does not let us read them.
    """
    try:
        yield
    except SlidefusionError:
        raise
    except Exception as error:  # each parser has exceptions of its own
        cause = f"{type(error).__name__}: {error}"
        if is_out_of_reach(error) and not isinstance(error, MemoryError):
            raise ProcessingError(f"cannot read the metadata of {where}: {cause}") from error
        raise StackError(
            f"the metadata of {where} is damaged ({cause}); restore it, or write it anew with its "
            "producer"
        ) from error


def member(group: zarr.Group, name: str) -> zarr.Group | zarr.Array[Any] | None:
    """What lies at ``name`` below an opened group; None if nothing does."""
    import zarr

    mode: Any = "r" if group.read_only else "r+"
    version = group.metadata.zarr_format
    try:
        return zarr.open(group.store_path, path=name, mode=mode, zarr_format=version)
    except FileNotFoundError:
        return None


def fault_of(group: zarr.Group, name: str, where: str) -> str | None:
    """What is wrong with the metadata of ``name`` below an opened group; None if nothing is.

    Raises
    ------
    ProcessingError
        The store does not answer.
    """
    try:
        with metadata_of(f"{where}/{name}"):
            return MISSING if member(group, name) is None else None
    except StackError:
        return "has damaged metadata"


def metadata_fault(
    group: zarr.Group, name: str, where: str, fits: Callable[[Any], bool]
) -> str | None:
    """What is wrong with the ``zarr.json`` of ``name`` below an opened group, if anything is.

    ``fits`` says whether what it says is what it must be.

    Raises
    ------
    ProcessingError
        The store does not answer.
    """
    from zarr.core.sync import sync

    try:
        with metadata_of(f"{where}/{name}"):
            text = sync((group.store_path / name / "zarr.json").get())
            found = None if text is None else json.loads(text.to_bytes())
    except StackError:
        return "has damaged metadata"
    if text is None:
        return MISSING
    fitting = isinstance(found, dict) and fits(found)
    return None if fitting else "has other metadata than it was written with"


def store_metadata(group: zarr.Group, name: str, text: bytes) -> None:
    """Write the ``zarr.json`` of ``name`` below an opened group; raises what the store raises."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    data = default_buffer_prototype().buffer.from_bytes(text)
    sync((group.store_path / name / "zarr.json").set(data))


def made_group(group: zarr.Group, name: str) -> zarr.Group:
    """The group at ``name`` below an opened one; it and those above it are made if they lack."""
    import zarr

    for part in filter(None, name.split("/")):
        group = zarr.open_group(group.store_path, path=part, mode="a", zarr_format=3)
    return group


def label_names(group: zarr.Group) -> list[str]:
    """Names of the label images of an opened OME-Zarr, as it lists them below ``labels``."""
    labels = member(group, "labels")
    attributes: Any = {} if labels is None else dict(labels.attrs)
    ome = attributes.get("ome", attributes)
    listed = ome.get("labels") if isinstance(ome, dict) else None
    return sorted({*map(str, listed)}) if isinstance(listed, list) else []


def array_of(group: zarr.Group, path: str, where: str) -> zarr.Array[Any]:
    """The array at ``path`` below an opened group, which lies at ``where``.

    Raises
    ------
    StackError
        There is none, its metadata is damaged, or the path leads out of the group.
    """
    import zarr

    if not path.strip("/") or ".." in path.split("/") or path.startswith("/") or ":" in path:
        raise StackError(
            f"the metadata of {where} names the array {path!r}, which is no place inside of it; "
            "only paths below the image are followed"
        )
    with metadata_of(f"{where}/{path}"):
        array = group.get(path)
    if not isinstance(array, zarr.Array):
        raise StackError(f"{where} lacks the array {path!r} that its metadata names")
    return array


def check_chunk(array: zarr.Array[Any], what: str) -> None:
    """Refuse an array whose chunks are empty, or cannot be decoded in the memory there is.

    Raises
    ------
    StackError
        A side of its chunks or shards is 0.
    MemoryBudgetError
        Naming the size of a chunk and what is allowed.
    """
    for sides in (array.chunks, array.shards or ()):
        if min(sides, default=1) < 1:
            raise StackError(
                f"{what} declares chunks of {tuple(sides)}, which hold nothing: its metadata is "
                "damaged; restore it, or write it anew with its producer"
            )
    chunk = math.prod(map(int, array.chunks)) * np.dtype(array.dtype).itemsize
    allowed = int(available_bytes() * _CHUNK_SHARE)
    if chunk > allowed:
        raise MemoryBudgetError(
            f"{what} has chunks of {chunk / 1e9:.1f} GB, which are read whole, and "
            f"{allowed / 1e9:.1f} GB may be used for one: write the array anew in smaller chunks"
        )
