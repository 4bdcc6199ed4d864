"""``slidefusion.fuse``: a focus stack in, one all-in-focus image out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from slidefusion.errors import OptionError
from slidefusion.fuser import Fuser
from slidefusion.lazy_image import lazy_image
from slidefusion.memory import keep_freed_memory, share_one_heap
from slidefusion.plan import make_plan
from slidefusion.stack import open_slide

if TYPE_CHECKING:
    import xarray as xr

    from slidefusion.run_options import RunOptions

__all__ = ["fuse"]


def fuse(
    stack: Any,
    fuser: str | Fuser = "lpp",
    *,
    planes: Sequence[int] | None = None,
    out: str | os.PathLike[str] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    chunks: int | Literal["auto"] = "auto",
    client: Any | None = None,
    device: str = "auto",
    progress: bool = True,
    overwrite: bool = False,
    verify: bool = False,
    retries: int = 3,
    report: str | os.PathLike[str] | None = None,
    **options: Any,
) -> xr.DataArray:
    """Fuse a focus stack into one all-in-focus image; the answer does not depend on the cutting.

    Parameters
    ----------
    stack
        Path (a str, or any ``os.PathLike`` of one) or URL of an OME-Zarr stack, a Zarr group or
        array, a DataArray, a Dask or NumPy array (unnamed axes are c, z, y, x) of uint8, uint16 or
        float32; any number of channels. Of a DataArray the coordinates z, y and x count whose
        ``attrs["units"]`` are a length (``"micrometer"``, ``"nm"``), and ``focus_offset`` along z.
    fuser
        Name of an installed fuser (``slidefusion.fusers()`` lists them), or a fuser object.
    planes
        Focus offsets of the planes to use, 0 the reference plane: ``[0]``, ``[-1, 0, 1]``. All by
        default.
    out
        Path or URL of the OME-Zarr slide to write: pyramid, physical units, provenance and, when
        the fuser gives them, the depth map as the label image ``labels/depth`` and how sure it
        is, 0 to 255, as the image ``confidence``; further images by their name, as ``blur`` of
        ``focusgan`` with ``keep_masks=True``. An interrupted call continues when it is repeated.
    crop
        ``(y, x, height, width)`` in level-0 pixels: fuse only that rectangle.
    chunks
        Side in pixels of the regions that are fused one by one; ``"auto"`` takes the largest that
        needs at most 704 MiB each, as the fuser declares it.
    client
        A ``dask.distributed.Client``; by default the active one, or this machine's threads. The
        active one is Dask's: the last that this process opened, while it is open. Inside a task of
        a Dask worker none is active; with one given, the task leaves its place on the worker to
        others until all is done.
    device
        ``"auto"``, the fuser's own default (transforms: the CPU; learned fusers: a GPU if the
        machine that calls has one), or what its option ``device`` allows (``"cpu"``, ``"cuda"``).
    progress
        Show a progress bar on a terminal.
    overwrite
        Delete an existing Zarr store at ``out`` first.
    verify
        Read the slide at ``out`` again before it is called complete, and make anew what is damaged;
        one that is complete already is checked and repaired instead of refused.
    retries
        How often a region, or a part of the slide that the fuser looks at before, is tried again
        that failed for a reason that may pass (a store that does not answer, a worker that was
        lost).
    report
        Local JSON file to write: seconds spent on reading, fusing and writing, bytes, retries, peak
        memory of each worker.
    **options
        Options of the fuser.

    Returns
    -------
    xarray.DataArray
        Dims (c, y, x), dtype of the input, Dask-backed: not computed yet, or opened from ``out``.

    Raises
    ------
    UsageError
        What was asked cannot be done (its subclasses say what); nothing was written. But
        a StackError of pixels that are NaN or infinite comes where they are read, midway.
    PluginError
        The fuser is broken or its name ambiguous.
    ProcessingError
        Reading, fusing or writing failed midway; the output stays marked incomplete.

    >>> import numpy as np, slidefusion as sf
    >>> stack = np.random.default_rng(0).integers(0, 255, (3, 5, 90, 80), dtype=np.uint8)
    >>> sf.fuse(stack, "lpp", planes=[-1, 0, 1]).compute().shape
    (3, 90, 80)
    """
    run = _run_options(out, progress, overwrite, verify, retries, report)
    share_one_heap()
    if out is not None:
        keep_freed_memory()
    continued = None if overwrite else out
    plan = make_plan(
        stack, fuser, planes, crop, chunks, client, device, continued, options, run.retries
    )
    if out is None:
        return lazy_image(plan)
    from slidefusion.write_slide import write_slide

    write_slide(plan, out, dataclasses.replace(run, client=plan.client))
    return open_slide(out)


def _run_options(
    out: str | os.PathLike[str] | None,
    progress: bool,
    overwrite: bool,
    verify: bool,
    retries: int,
    report: str | os.PathLike[str] | None,
) -> RunOptions:
    from slidefusion.run_options import RunOptions

    if out is None and (verify or overwrite or report is not None):
        raise OptionError(
            "verify, overwrite and report are about the slide that is written: give out= as well, "
            "or leave them out"
        )
    return RunOptions(
        progress=progress, overwrite=overwrite, verify=verify, retries=retries, report=report
    )
