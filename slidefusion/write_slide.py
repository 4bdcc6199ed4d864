"""The fused image as an OME-Zarr slide, written region by region and continued if interrupted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slidefusion.engine import fuse_region
from slidefusion.omezarr.journal import fingerprint_of
from slidefusion.omezarr.metadata import image_label, omero
from slidefusion.omezarr.output import ImageSpec, Output
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.plan import FusePlan, RegionJob
from slidefusion.progress import progress_bar
from slidefusion.scheduling import run_tasks

__all__ = ["write_slide"]


@dataclass(frozen=True, eq=False)
class _WriteJob:
    job: RegionJob
    where: str
    image: PyramidLayout
    depth: PyramidLayout | None


def _write_region(write: _WriteJob, row: int, column: int) -> None:
    job = write.job
    region = job.tiling.region(row, column)
    fused = fuse_region(job.fuser, job.source, job.planes, job.tiling, region)
    place = region.relative_to(job.tiling.target)
    write.image.write_region(write.where, "", place, fused.image)
    if write.depth is not None and fused.depth is not None:
        depth = fused.depth.astype(write.depth.dtype, copy=False)[np.newaxis]
        write.depth.write_region(write.where, "labels/depth", place, depth)


def _gives_depth(plan: FusePlan) -> bool:
    """Whether the fuser returns a depth map: asked of it with one small window."""
    side = plan.fuser.footprint.period
    stack = np.zeros((len(plan.planes), plan.stack.shape[0], side, side), plan.stack.dtype)
    return plan.fuser(stack).depth is not None


def write_slide(plan: FusePlan, out: str | Path, *, progress: bool, overwrite: bool) -> None:
    """Fuse the regions that are not finished yet into the slide at ``out`` (see ``fuse``)."""
    stack, tiling, target = plan.stack, plan.tiling, plan.tiling.target
    channels, region_px = stack.shape[0], tiling.region_px
    layout = PyramidLayout(
        "cyx", (channels, target.height, target.width), stack.dtype.name, region_px
    )
    block = omero(stack.channel_names, stack.dtype.name, rgb=stack.rgb)
    images = [ImageSpec("", layout, pixel_size_um=stack.pixel_size_um, blocks={"omero": block})]
    depth_layout = None
    if _gives_depth(plan):
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
        attributes={**provenance, "fingerprint": fingerprint_of(settings)},
        count=tiling.count,
        inputs=() if stack.store is None else (stack.store,),
        overwrite=overwrite,
    )
    columns = tiling.grid[1]
    journal = output.journal
    pending = [key for key in tiling.regions() if not journal.done[key[0] * columns + key[1]]]
    write = _WriteJob(plan.job, output.where, layout, depth_layout)
    total, label_text = tiling.count, f"fusing ({plan.fuser.name})"
    with progress_bar(label_text, total, total - len(pending), enabled=progress) as advance:

        def on_done(key: tuple[int, ...]) -> None:
            journal.mark(key[0] * columns + key[1])
            advance()

        try:
            run_tasks(
                _write_region,
                write,
                pending,
                client=plan.client,
                name=f"fuse-{plan.fuser.name}",
                on_done=on_done,
            )
        finally:
            journal.flush()
    output.finish()
