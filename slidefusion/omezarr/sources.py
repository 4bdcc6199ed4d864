"""Arrays in Zarr stores as sources of planes: what they must be, and what they are known by."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from slidefusion.errors import StackError
from slidefusion.omezarr.store import ZarrSource
from slidefusion.stack_shape import check_shape

if TYPE_CHECKING:
    import zarr

__all__ = ["root_of", "store_identity", "zarr_source"]


def root_of(store: Any) -> str | None:
    """Path or URL that another process can open the Zarr store by, or None."""
    kind = type(store).__name__
    if kind == "LocalStore":
        return str(store.root)
    return str(store) if kind == "FsspecStore" and not str(store).startswith("memory") else None


def zarr_source(
    where: str, name: str, axes: str, array: zarr.Array[Any], *, whole: bool = False
) -> ZarrSource:
    """Planes out of the array ``name`` of the store at ``where``, whose axes have these letters.

    Of a ``whole`` array a shard that is missing was lost. Raises
    :class:`~slidefusion.errors.StackError` when it is no focus stack.
    """
    what = f"{where}/{name}"
    if len(axes) != array.ndim or not set("yx") <= set(axes) <= set("tczyx"):
        raise StackError(
            f"the array {what} has axes {tuple(axes)} and shape {array.shape}; a focus stack has "
            "(c, z, y, x), of which c may be missing"
        )
    sizes = dict(zip(axes, array.shape, strict=True))
    if sizes.get("t", 1) != 1:
        raise StackError(
            f"{what} has {sizes['t']} time points; fuse one at a time: give the array of one"
        )
    shape = check_shape([sizes.get(axis, 1) for axis in "czyx"], array.dtype, what)
    metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
    stamp = hashlib.sha256(metadata.encode()).hexdigest()[:16]
    dtype = np.dtype(array.dtype).newbyteorder("=").name
    return ZarrSource(where, name, axes, shape, dtype, stamp, whole)


def store_identity(source: ZarrSource) -> dict[str, Any]:
    """What a run is recognised by that read this array."""
    return {"store": source.path, "array": source.array, "metadata": source.stamp}
