"""The fused image as an OME-Zarr slide, written region by region and continued if interrupted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slidefusion.costs import Cost, MeteredSource
from slidefusion.engine import fuse_region
from slidefusion.fuser import Fuser
from slidefusion.omezarr.journal import fingerprint_of
from slidefusion.omezarr.metadata import image_label, omero
from slidefusion.omezarr.output import ImageSpec, Output
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.store import is_url
from slidefusion.placement import resources_for
from slidefusion.plan import FusePlan, RegionJob
from slidefusion.preflight import check_workers
from slidefusion.region_run import RegionTasks, RunOptions, run_regions
from slidefusion.requirements import BYTES_DEPEND_ON, Requirement

__all__ = ["write_slide"]


@dataclass(frozen=True, eq=False)
class _WriteJob:
    job: RegionJob
    where: str
    image: PyramidLayout
    depth: PyramidLayout | None


def _write_region(write: _WriteJob, row: int, column: int) -> Cost:
    job, cost = write.job, Cost()
    region = job.tiling.region(row, column)
    source = MeteredSource(job.source, cost)
    with cost.timed("fuse_s"):
        fused = fuse_region(job.fuser, source, job.planes, job.tiling, region)
    cost.fuse_s -= cost.read_s  # planes are read while they are fused
    place = region.relative_to(job.tiling.target)
    with cost.timed("write_s"):
        write.image.write_region(write.where, "", place, fused.image)
        cost.written_bytes = fused.image.nbytes
        if write.depth is not None and fused.depth is not None:
            depth = fused.depth.astype(write.depth.dtype, copy=False)[np.newaxis]
            write.depth.write_region(write.where, "labels/depth", place, depth)
            cost.written_bytes += depth.nbytes
    return cost


def _gives_depth(fuser: Fuser, shape: tuple[int, int, int, int], dtype: str) -> bool:
    """Whether the fuser returns a depth map: asked of it with one small window (Z, C, Y, X)."""
    return fuser(np.zeros(shape, dtype)).depth is not None


def _ask_for_depth(plan: FusePlan, options: RunOptions) -> bool:
    side = plan.fuser.footprint.period
    question = (
        plan.fuser,
        (len(plan.planes), plan.stack.shape[0], side, side),
        plan.stack.dtype.name,
    )
    resources = resources_for(plan.fuser)
    if options.client is None or resources is None:
        return _gives_depth(*question)
    # This machine need not have what the fuser runs on.
    asked = options.client.submit(_gives_depth, *question, resources=resources, pure=False)
    return bool(asked.result())


def _needs(plan: FusePlan) -> Requirement:
    """What every worker must have so that its regions equal everybody else's."""
    store = plan.stack.store
    files = () if store is None or is_url(store) else (store,)
    return Requirement.here([*plan.provenance["software"], *BYTES_DEPEND_ON], files)


def write_slide(plan: FusePlan, out: str | Path, options: RunOptions) -> None:
    """Fuse the regions that are not finished yet into the slide at ``out`` (see ``fuse``)."""
    needs = None
    if options.client is not None:
        needs = _needs(plan)
        check_workers(options.client, needs, (plan.fuser, plan.stack.source))
    stack, tiling, target = plan.stack, plan.tiling, plan.tiling.target
    channels, region_px = stack.shape[0], tiling.region_px
    layout = PyramidLayout(
        "cyx", (channels, target.height, target.width), stack.dtype.name, region_px
    )
    block = omero(stack.channel_names, stack.dtype.name, rgb=stack.rgb)
    images = [ImageSpec("", layout, pixel_size_um=stack.pixel_size_um, blocks={"omero": block})]
    depth_layout = None
    if _ask_for_depth(plan, options):
        depth_layout = dataclasses.replace(
            layout,
            shape0=(1, target.height, target.width),
            dtype="uint8" if len(plan.planes) <= 256 else "uint16",
            method="nearest",
        )
        z_um = stack.z_um
        label = image_label(
            [
                {"focus_offset": stack.offsets[z], "z_um": None if z_um is None else z_um[z]}
                for z in plan.planes
            ]
        )
        images.append(
            ImageSpec(
                "labels/depth",
                depth_layout,
                pixel_size_um=stack.pixel_size_um,
                blocks={"image-label": label},
            )
        )
    provenance = plan.provenance
    settings = {
        "input": stack.identity,
        "fuser": provenance["fuser"],
        "options": provenance["options"],
        "planes": provenance["planes"],
        "crop": provenance["crop"],
        "region_px": region_px,
        "software": provenance["software"],
    }
    output = Output(
        out,
        images,
        settings=settings,
        attributes={
            **provenance,
            "region_px": region_px,
            "fingerprint": fingerprint_of(settings),
        },
        count=tiling.count,
        inputs=() if stack.store is None else (stack.store,),
        overwrite=options.overwrite,
        again=options.verify,
    )
    tasks = RegionTasks(
        name=f"fuse-{plan.fuser.name}",
        label=f"fusing ({plan.fuser.name})",
        function=_write_region,
        keys=list(tiling.regions()),
        place=lambda key: (tiling.region(*key).relative_to(target), (None,)),
        megapixels=target.height * target.width * len(plan.planes) / 1e6,
        resources=resources_for(plan.fuser),
        needs=needs,
    )
    write = _WriteJob(plan.job, output.where, layout, depth_layout)
    run_regions(output, tasks, write, options)
