"""``verify``: read a finished OME-Zarr again and say what is damaged."""

from __future__ import annotations

import os
from typing import Any

from slidefusion.omezarr.check import Damage, find_damage
from slidefusion.omezarr.contents import images_of, lost_arrays
from slidefusion.omezarr.record import record_of, refuse_incomplete
from slidefusion.omezarr.store import location, open_group
from slidefusion.run_options import check_flags
from slidefusion.tasks.clients import active_client

__all__ = ["verify"]


def verify(
    store: str | os.PathLike[str], *, client: Any | None = None, progress: bool = True
) -> list[Damage]:
    """Read every shard of every level of an OME-Zarr, and list what is not as it was written.

    Checked are: every array and every shard is there, whole, and decodes; every chunk has the
    checksum that it was written with; each level is the half of the one below it (of stacks and
    slides that slidefusion wrote; others made theirs in some other way); label images likewise.
    What slidefusion wrote has digests of its metadata, too, which are compared.
    Nothing is changed: the call that wrote the store repairs it when it is repeated with
    ``verify=True``.

    Parameters
    ----------
    store
        Path or URL of the stack or slide.
    client
        A ``dask.distributed.Client``; by default the active one (see :func:`slidefusion.fuse`), or
        this machine's threads.
    progress
        Show a progress bar on a terminal.

    Returns
    -------
    list of Damage
        Empty when all is well; else array, plane, rectangle and reason of each.

    Raises
    ------
    UnknownNameError
        Nothing is there.
    StackError
        It is no OME-Zarr image, or is incomplete.
    ProcessingError
        The store does not answer.

    >>> verify("slide.zarr")  # doctest: +SKIP
    []
    """
    check_flags(progress=progress)
    where = location(store)
    group = open_group(where)
    refuse_incomplete(record_of(dict(group.attrs)), where, ", then verify")
    lost = lost_arrays(group, where)
    images = images_of(group, where, {damage.array for damage in lost})
    return lost + find_damage(where, images, client=active_client(client), progress=progress)
