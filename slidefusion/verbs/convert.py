"""``slidefusion.convert``: slides of any supported format into one OME-Zarr focus stack."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion import memory
from slidefusion.blocks import BLOCK_BYTES, block_grid, block_size, block_window
from slidefusion.errors import MemoryBudgetError, OptionError, PluginError, advise
from slidefusion.geometry import Size, Window, as_whole
from slidefusion.omezarr.images import ImageSpec
from slidefusion.omezarr.journal import fingerprint_of
from slidefusion.omezarr.output import Output
from slidefusion.omezarr.pyramid import CHUNK_PX, PyramidLayout
from slidefusion.omezarr.rendering import omero
from slidefusion.omezarr.store import is_url, location
from slidefusion.readers import open_reader
from slidefusion.readers.aligned import aligned, warn_of_drift
from slidefusion.readers.base import Reader, check_dtype
from slidefusion.region_run import RegionTasks, run_regions
from slidefusion.run_options import RunOptions, check_flags
from slidefusion.stack_shape import check_shape
from slidefusion.tasks.clients import active_client
from slidefusion.tasks.costs import Cost
from slidefusion.tasks.pools import parallelism, workers_of
from slidefusion.tasks.preflight import needs_of_all
from slidefusion.verbs.stack_facts import StackFacts, name_of
from slidefusion.wording import byte_text

__all__ = ["chunk_and_shard", "convert"]

_SHARD_PX = 2048
_MOST_PX = 2**20
"""Of a shard: no slide is larger, and how larger ones divide would be looked for for ever."""


def convert(
    source: Any,
    out: str | os.PathLike[str],
    *,
    pixel_size_um: float | tuple[float, float] | None = None,
    z_step_um: float | None = None,
    z_um: Sequence[float] | None = None,
    reference: int | None = None,
    align: bool = False,
    reader: str | None = None,
    chunk_px: int = CHUNK_PX,
    shard_px: int = _SHARD_PX,
    client: Any | None = None,
    progress: bool = True,
    overwrite: bool = False,
    verify: bool = False,
    retries: int = 3,
    report: str | os.PathLike[str] | None = None,
    **reader_options: Any,
) -> str:
    """Convert slides into a chunked, sharded OME-Zarr 0.5 focus stack (c, z, y, x) with a pyramid.

    Every plane of the source is in the stack: a file with planes that cannot be given is refused.
    Memory is bounded by the blocks in work, of which no more are begun than fit. An interrupted
    call continues when it is repeated.

    Parameters
    ----------
    source
        A multi-plane file (OME-TIFF, TIFF stack, SVS, NDPI), an OME-Zarr image 0.4 or 0.5, a list
        of slides or pictures, one a plane, a glob or folder of such, or a
        :class:`~slidefusion.readers.base.Reader`.
    out
        Path or URL of the OME-Zarr stack to write.
    pixel_size_um
        µm a pixel, one number or (y, x); wins over what the source says, and is needed where that
        says nothing.
    z_step_um
        Distance of neighbouring planes in µm; wins over what the source says.
    z_um
        Position of every plane in µm, ascending, for planes that are not equally spaced.
    reference
        Index of the plane that has focus offset 0; the middle one by default.
    align
        Move planes by whole pixels to where the reference plane lies, for scans that drift from
        plane to plane: one shift a plane, found where it shows most, and written into the
        provenance. Planes that are turned or enlarged are not brought together.
    reader
        Name of the reader to use instead of the first that takes ``source``.
    chunk_px, shard_px
        Longest side of a chunk and of a shard (one file) of the stack in pixels.
    client
        A ``dask.distributed.Client``; by default the active one (see :func:`slidefusion.fuse`), or
        this machine's threads.
    progress
        Show a progress bar on a terminal.
    overwrite
        Delete an existing Zarr store at ``out`` first.
    verify, retries, report
        As for :func:`slidefusion.fuse`.
    **reader_options
        For the reader, such as ``axes="ZCYX"`` or ``series=1`` for TIFF.

    Returns
    -------
    str
        Where the stack is: the absolute path, or the URL.

    Raises
    ------
    UsageError
        The source cannot be converted as asked (its subclasses say why), or not in the memory that
        there is; nothing was written. But a StackError of transparent pixels comes where they are
        read, midway.
    PluginError
        The reader gives other pixels than it declares, or a worker of the cluster has other
        software.
    ProcessingError
        Reading or writing failed midway; the output stays marked incomplete.

    >>> import slidefusion as sf
    >>> sf.convert("slide.ome.tif", "stack.zarr")  # doctest: +SKIP
    >>> sf.convert("field/z*.png", "stack.zarr", pixel_size_um=0.25, z_step_um=1)  # doctest: +SKIP
    """
    check_flags(align=align)
    memory.share_one_heap()
    options = RunOptions(active_client(client), progress, overwrite, verify, retries, report)
    opened = open_reader(source, reader=reader, **reader_options)
    try:
        facts = StackFacts.of(opened, pixel_size_um, z_step_um, z_um, reference)
        _convert(opened, out, facts, chunk_px, shard_px, options, align=align)
    finally:
        if opened is not source:
            opened.close()
    return location(out)


def chunk_and_shard(chunk_px: int = CHUNK_PX, shard_px: int = _SHARD_PX) -> tuple[int, int]:
    """These two arguments of :func:`convert`, checked. Raises ``OptionError``."""
    chunk, shard = as_whole(chunk_px), as_whole(shard_px)
    if chunk is None or shard is None or not 1 <= chunk <= shard <= _MOST_PX:
        raise OptionError(
            f"chunk_px={chunk_px!r}, shard_px={shard_px!r}: give whole numbers; a chunk has at "
            f"least 1 px, and a shard holds whole chunks and has at most {_MOST_PX} px"
        )
    return chunk, shard


@dataclass(frozen=True, eq=False)
class _Job:
    """What every task shares."""

    reader: Reader
    where: str
    layout: PyramidLayout
    slide: Size
    block: Size
    group: int
    """Planes a task: those that the source decodes together."""


def _planes(job: _Job, group: int) -> range:
    first = group * job.group
    return range(first, min(first + job.group, job.reader.shape[1]))


def _convert_block(job: _Job, group: int, row: int, column: int) -> Cost:
    window, cost = block_window(job.slide, job.block, row, column), Cost()
    for z in _planes(job, group):
        with cost.timed("read_s"):
            pixels = job.reader.read(z, window)
            _check_block(job.reader, pixels, z, window)
        with cost.timed("write_s"):
            job.layout.write_region(job.where, "", window, pixels, z)
        cost.read_bytes += pixels.nbytes
        cost.written_bytes += pixels.nbytes
    return cost


def _check_block(reader: Reader, pixels: Any, z: int, window: Window) -> None:
    """A reader that gives less than was asked for would leave the rest of the stack black."""
    wanted = (reader.shape[0], window.height, window.width)
    shape, dtype = getattr(pixels, "shape", None), getattr(pixels, "dtype", None)
    declared = np.dtype(reader.dtype).newbyteorder("=")
    if shape != wanted or np.dtype(dtype).newbyteorder("=") != declared:
        raise PluginError(
            f"the reader {reader.name!r} of {name_of(reader)} gave {shape} of {dtype} for plane "
            f"{z} at y {window.y}, x {window.x}, and not {wanted} of {declared}, as it declares"
        )


def _convert(
    reader: Reader,
    out: str | os.PathLike[str],
    facts: StackFacts,
    chunk_px: int,
    shard_px: int,
    options: RunOptions,
    *,
    align: bool,
) -> None:
    chunk_px, shard_px = chunk_and_shard(chunk_px, shard_px)
    dtype = check_dtype(reader.dtype, name_of(reader))
    channels, planes, height, width = check_shape(reader.shape, dtype, name_of(reader))
    slide = Size(height, width)
    layout = PyramidLayout(
        "czyx", reader.shape, dtype.name, shard_px, shard_px=shard_px, chunk_px=chunk_px
    )
    # Planes that share chunks of the source are read by one task, one after the other.
    group = int(getattr(reader, "planes_at_once", 1))
    pixel_bytes = channels * dtype.itemsize * group
    block = block_size(slide, reader.tile, shard_px, pixel_bytes, BLOCK_BYTES)
    rows, columns = block_grid(slide, block)
    keys = list(product(range(-(-planes // group)), range(rows), range(columns)))
    at_once = _tasks_that_fit(reader, block, pixel_bytes, len(keys), options.client)
    if align:
        reader = aligned(reader, facts.reference, options.retries)
    settings = {
        "input": {k: v for k, v in reader.provenance.items() if k not in ("versions", "warnings")},
        "shape": list(reader.shape),
        "dtype": dtype.name,
        "pixel_size_um": list(facts.pixel_size_um),
        "z_um": facts.z_um,
        "reference": facts.reference,
        "chunk_px": chunk_px,
        "shard_px": shard_px,
        "block": list(block),
        "planes_a_task": group,
    }
    if any(facts.origin_um):  # left out of most, as it was of all before it was known
        settings["origin_um"] = list(facts.origin_um)
    looks = getattr(reader, "looks", ())
    shown = omero(reader.channel_names, dtype.name, rgb=reader.is_rgb, looks=looks)
    image = ImageSpec(
        "",
        layout,
        pixel_size_um=facts.pixel_size_um,
        z_step_um=facts.z_step_um,
        z_start_um=facts.z_um[0] if facts.z_um and facts.z_step_um else 0.0,
        origin=facts.origin_um,
        blocks={"omero": shown},
        rgb=reader.is_rgb,
    )
    inputs = [entry["path"] for entry in reader.provenance.get("files", ())]
    files = [path for path in inputs if Path(path).is_absolute() and Path(path).exists()]
    urls = [path for path in inputs if is_url(path) and reader.name == "ngff"]
    software = reader.provenance.get("versions", ())
    needs = needs_of_all(options.client, software, files, reader, urls)
    output = Output(
        out,
        [image],
        settings=settings,
        attributes=_attributes(reader, facts, settings),
        count=len(keys),
        inputs=inputs,
        overwrite=options.overwrite,
        again=options.verify,
    )
    job = _Job(reader, output.where, output.images[0].layout, slide, block, group)
    tasks = RegionTasks(
        name="convert",
        label="converting",
        function=_convert_block,
        keys=keys,
        place=lambda key: (block_window(slide, block, *key[1:]), _planes(job, key[0])),
        megapixels=planes * height * width / 1e6,
        threads=at_once,
        needs=needs,
    )
    run_regions([output], tasks, job, options)
    if not align:
        warn_of_drift(output.where, facts.reference)


def _tasks_that_fit(
    reader: Reader, block: Size, pixel_bytes: int, count: int, client: Any | None
) -> int | None:
    """How many of ``count`` blocks may be in work at once here, or None: as many as usual.

    A task holds a block, and the largest piece of the source that it decodes for it. Where neither
    is larger than the process itself, nothing is refused.

    Raises
    ------
    MemoryBudgetError
        Not one fits; or fewer than a worker runs, which is not for us to choose.
    """
    height, width = reader.shape[2:]
    tile_px = min(reader.tile.height, height) * min(reader.tile.width, width)
    block_px = min(block.height, height) * min(block.width, width)
    task, process = (block_px + tile_px) * pixel_bytes, memory.process_bytes()
    if task <= process:
        return None
    if client is None:
        processes = [(1, memory.available_bytes())]
    else:
        processes = [
            (min(int(worker["nthreads"]), count), int(worker["memory_limit"]))
            for worker in workers_of(client).values()
            if worker.get("memory_limit")
        ]
    for least, total in processes:
        allowed, needed = memory.budget_bytes(total), process + least * task
        if needed > allowed:
            piece = reader.tile if 2 * tile_px >= block_px else block
            raise MemoryBudgetError(
                f"{name_of(reader)} is read in pieces of {piece.height} x {piece.width} px: a "
                f"process needs {byte_text(needed)} for {least} at a time, and "
                f"{byte_text(allowed)} may be used: give it fewer threads or more memory, or save "
                "the source in smaller tiles"
            )
    if client is not None:
        return None
    usual = min(parallelism(None), count)
    fits = (memory.budget_bytes() - process) // task
    if fits >= usual:
        return None
    advise(
        f"{name_of(reader)} is read in large pieces: {fits} at a time fit the memory, and not "
        f"{usual}"
    )
    return int(fits)


def _attributes(reader: Reader, facts: StackFacts, settings: dict[str, Any]) -> dict[str, Any]:
    """What the root group says under ``slidefusion``."""
    source = dict(reader.provenance)
    versions = source.pop("versions", {})
    own = reader.pixel_size_um, reader.z_um
    return {
        "kind": "stack",
        "software": {"slidefusion": importlib.metadata.version("slidefusion"), **versions},
        "source": source,
        "pixel_size_from": "source" if own[0] == facts.pixel_size_um else "option",
        "z_from": "source" if own[1] == facts.z_um else "option",
        "z_um": None if facts.z_um is None else list(facts.z_um),
        "reference": facts.reference,
        "fingerprint": fingerprint_of(settings),
    }
