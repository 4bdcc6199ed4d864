"""``write_phantom``: a phantom of any size as OME-Zarr, with its truth and depth beside it."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from slidefusion.errors import SlidefusionError
from slidefusion.fuser import Footprint
from slidefusion.geometry import Size, Window
from slidefusion.memory import share_one_heap
from slidefusion.omezarr.images import ImageSpec
from slidefusion.omezarr.journal import fingerprint_of
from slidefusion.omezarr.output import Output
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.record import is_complete, record_of
from slidefusion.omezarr.rendering import omero
from slidefusion.omezarr.store import location, open_group
from slidefusion.phantom import Phantom, PhantomRegion
from slidefusion.region_run import RegionTasks, run_regions
from slidefusion.run_options import RunOptions
from slidefusion.tasks.clients import active_client
from slidefusion.tasks.costs import Cost
from slidefusion.tasks.preflight import needs_of_all
from slidefusion.tasks.requirements import Requirement
from slidefusion.tiling import Tiling
from slidefusion.verbs.truths import beside

__all__ = [
    "PhantomPaths",
    "Sink",
    "ensure_phantom",
    "render_into",
    "truth_sinks",
    "write_phantom",
]

_REGION_CHOICES_PX = (2048, 1024, 512)
_REGION_BYTES = 192 * 2**20
_SMALL_PX = 4096
"""Slides up to this side are cut finely, so that every core has work."""


Part = Literal["stack", "truth", "depth_um"]


class PhantomPaths(NamedTuple):
    """Where a phantom was written: absolute paths or URLs."""

    stack: str
    """OME-Zarr focus stack (c, z, y, x)."""
    truth: str
    """OME-Zarr image (c, y, x): the slide in focus everywhere, without noise."""
    depth: str
    """OME-Zarr image (c, y, x), one float32 channel: µm from the reference plane, NaN on glass."""


class Sink(Protocol):
    """Takes rendered regions; picklable, and safe to call from several threads."""

    def write(self, window: Window, region: PhantomRegion) -> int:
        """Store what it wants of the region that fills ``window``; returns its bytes."""


def write_phantom(
    phantom: Phantom,
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    client: Any | None = None,
    progress: bool = True,
    verify: bool = False,
    retries: int = 3,
    report: str | os.PathLike[str] | None = None,
) -> PhantomPaths:
    """Write a phantom as an OME-Zarr stack at ``out``, truth and depth beside it.

    Each region is rendered once, for all three. Streams; an interrupted call continues when it is
    repeated. The options are as for :func:`slidefusion.fuse`.

    Raises
    ------
    OutputError
        An output exists.
    PluginError
        A worker of the cluster has other software.
    ProcessingError
        Writing failed midway; the outputs stay marked incomplete.

    >>> write_phantom(Phantom(2000, 3000, planes=5), "p.zarr").truth  # doctest: +SKIP
    '/data/p-truth.zarr'
    """
    options = RunOptions(active_client(client), progress, overwrite, verify, retries, report)
    share_one_heap()
    region_px = _region_px(phantom)
    paths = PhantomPaths(
        location(out), location(beside(out, "truth")), location(beside(out, "depth"))
    )
    parts: tuple[Part, ...] = ("stack", "truth", "depth_um")
    whole = [
        not overwrite and _is_whole(phantom, path, region_px, part)
        for path, part in zip(paths, parts, strict=True)
    ]
    needs = needs_of_all(options.client, (), (), phantom)
    # A run that was interrupted while it finished its outputs leaves some of them whole.
    sinks: list[ZarrSink] = []
    try:
        for path, part, done in zip(paths, parts, whole, strict=True):
            if not done or all(whole) or verify:
                sinks.append(_sink(phantom, path, region_px, part, options))
    except BaseException:
        _close(sinks)
        raise
    render_into(phantom, sinks, region_px, options, label="phantom", needs=needs)
    return paths


def ensure_phantom(
    phantom: Phantom, out: str | os.PathLike[str], *, client: Any | None = None
) -> None:
    """:func:`write_phantom`, unless this very phantom and its truth are there, complete."""
    if not all(_is_phantom(phantom, place) for place in (out, beside(out, "truth"))):
        write_phantom(phantom, out, client=client, progress=False)


def _is_phantom(phantom: Phantom, store: str | os.PathLike[str]) -> bool:
    """Whether ``store`` holds (a part of) this very phantom, complete."""
    try:
        own = record_of(dict(open_group(location(store)).attrs))
    except SlidefusionError:
        return False
    if not own or is_complete(own) is False:
        return False
    return {**own.get("source", {}), "reader": None} == {**phantom.provenance, "reader": None}


@dataclass(frozen=True)
class _ZarrWriter:
    where: str
    layout: PyramidLayout
    part: str

    def write(self, window: Window, region: PhantomRegion) -> int:
        if self.part == "stack":
            for z, plane in enumerate(region.stack):
                self.layout.write_region(self.where, "", window, plane, z)
            return region.stack.nbytes
        block = region.truth if self.part == "truth" else region.depth_um[np.newaxis]
        self.layout.write_region(self.where, "", window, block)
        return block.nbytes


@dataclass(frozen=True, eq=False)
class ZarrSink:
    """One OME-Zarr being filled with one part of the phantom."""

    output: Output
    writer: _ZarrWriter
    """What workers need of it: the place and the layout, not the journal."""


def truth_sinks(
    phantom: Phantom,
    truth: str | os.PathLike[str],
    depth: str | os.PathLike[str],
    region_px: int,
    options: RunOptions,
) -> list[ZarrSink]:
    """Begin the OME-Zarr images of the truth and the depth at these places.

    Raises :class:`OutputError` when one exists.
    """
    first = _sink(phantom, truth, region_px, "truth", options)
    try:
        return [first, _sink(phantom, depth, region_px, "depth_um", options)]
    except BaseException:
        _close([first])
        raise


def _close(sinks: Sequence[ZarrSink]) -> None:
    """Give up the right to write, where another output could not be begun."""
    for sink in sinks:
        sink.output.close()


def _sink(
    phantom: Phantom,
    out: str | os.PathLike[str],
    region_px: int,
    part: Part,
    options: RunOptions,
) -> ZarrSink:
    channels, planes, height, width = phantom.shape
    names: tuple[str, ...] = phantom.channel_names
    dtype = "uint8"
    extra: dict[str, Any] = {}
    z, step = phantom.z_um, None
    if part == "stack":
        step = phantom.settings.z_step_um if planes > 1 else None
        extra = {
            "z_um": list(z),
            "reference": phantom.reference,
            "pixel_size_from": "source",
            "z_from": "source",
        }
        layout = PyramidLayout("czyx", (channels, planes, height, width), dtype, region_px)
    elif part == "truth":
        layout = PyramidLayout("cyx", (channels, height, width), dtype, region_px)
    else:
        dtype, names = "float32", ("depth (µm)",)
        layout = PyramidLayout("cyx", (1, height, width), dtype, region_px)
    block = omero(names, dtype, rgb=len(names) == 3)
    if part == "depth_um":
        reach = phantom.settings.depth_um
        block["channels"][0]["window"] = {
            "min": -reach,
            "max": reach,
            "start": -reach,
            "end": reach,
        }
    image = ImageSpec(
        "",
        layout,
        pixel_size_um=phantom.pixel_size_um,
        z_step_um=step,
        z_start_um=z[0] if step else 0.0,
        blocks={"omero": block},
    )
    settings = _settings(phantom, region_px, part)
    attributes = {
        "kind": {"stack": "stack", "truth": "truth", "depth_um": "depth"}[part],
        "software": {"slidefusion": importlib.metadata.version("slidefusion")},
        "source": {"reader": "phantom", **phantom.provenance},
        **extra,
        "fingerprint": fingerprint_of(settings),
    }
    output = Output(
        location(out),
        [image],
        settings=settings,
        attributes=attributes,
        count=_tiling(phantom, region_px).count,
        overwrite=options.overwrite,
        again=options.verify,
    )
    return ZarrSink(output, _ZarrWriter(output.where, output.images[0].layout, part))


def _settings(phantom: Phantom, region_px: int, part: Part) -> dict[str, Any]:
    return {"phantom": phantom.provenance, "part": part, "region_px": region_px}


def _is_whole(phantom: Phantom, where: str, region_px: int, part: Part) -> bool:
    """Whether this part of this very phantom is complete there."""
    try:
        own = record_of(dict(open_group(where).attrs))
    except SlidefusionError:
        return False
    wanted = fingerprint_of(_settings(phantom, region_px, part))
    return is_complete(own) is True and own.get("fingerprint") == wanted


def render_into(
    phantom: Phantom,
    sinks: Sequence[ZarrSink],
    region_px: int,
    options: RunOptions,
    *,
    label: str,
    also: Sequence[Sink] = (),
    needs: Requirement | None = None,
) -> None:
    """Render the phantom region by region into all ``sinks``, each region once, and finish them.

    Regions that all of them have already are left out. What is rendered goes into ``also``, too.
    """
    tiling = _tiling(phantom, region_px)
    planes = range(phantom.shape[1])
    tasks = RegionTasks(
        name="phantom",
        label=label,
        function=_write_region,
        keys=list(tiling.regions()),
        place=lambda key: (tiling.region(*key), planes),
        megapixels=phantom.height * phantom.width * len(planes) / 1e6,
        needs=needs,
    )
    outputs = [sink.output for sink in sinks]
    run_regions(
        outputs, tasks, _Job(phantom, tiling, (*(sink.writer for sink in sinks), *also)), options
    )


@dataclass(frozen=True, eq=False)
class _Job:
    phantom: Phantom
    tiling: Tiling
    sinks: tuple[Sink, ...]


def _write_region(job: _Job, row: int, column: int) -> Cost:
    window, cost = job.tiling.region(row, column), Cost()
    with cost.timed("fuse_s"):
        region = job.phantom.render(window)
    with cost.timed("write_s"):
        cost.written_bytes = sum(sink.write(window, region) for sink in job.sinks)
    return cost


def _tiling(phantom: Phantom, region_px: int) -> Tiling:
    return Tiling(Size(phantom.height, phantom.width), region_px, Footprint())


def _region_px(phantom: Phantom) -> int:
    """The side of a region, of which a few fit into memory with all their planes."""
    channels, planes = phantom.shape[:2]
    if max(phantom.height, phantom.width) <= _SMALL_PX:
        return _REGION_CHOICES_PX[-1]
    for side in _REGION_CHOICES_PX:
        if side * side * channels * planes <= _REGION_BYTES:
            return side
    return _REGION_CHOICES_PX[-1]
