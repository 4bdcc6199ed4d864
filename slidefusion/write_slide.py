"""The fused image as an OME-Zarr slide, written region by region and continued if interrupted."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import fuse_array, fuse_region
from slidefusion.errors import PluginError, ProcessingError, SlidefusionError, UsageError
from slidefusion.fuser import Fused, Fuser
from slidefusion.memory import give_back_freed_memory, keep_freed_memory
from slidefusion.omezarr.images import ImageSpec
from slidefusion.omezarr.journal import fingerprint_of
from slidefusion.omezarr.output import Output
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.rendering import image_label, omero
from slidefusion.omezarr.sources import check_unchanged
from slidefusion.omezarr.store import is_url
from slidefusion.plan import FusePlan, RegionJob
from slidefusion.region_run import RegionTasks, run_regions
from slidefusion.run_options import RunOptions
from slidefusion.tasks.clients import out_of_the_way
from slidefusion.tasks.costs import Cost, MeteredSource
from slidefusion.tasks.interrupt import check_stop
from slidefusion.tasks.placement import resources_for
from slidefusion.tasks.preflight import needs_of_all
from slidefusion.value_range import depth_dtype

__all__ = ["CONFIDENCE", "DEPTH", "WriteJob", "write_region", "write_slide", "written_images"]

DEPTH = "labels/depth"
"""Label image of the plane that each pixel was taken from."""
CONFIDENCE = "confidence"
"""Image of how sure that is, 0 to 255."""
_POLL_SECONDS = 0.02


@dataclass(frozen=True, eq=False)
class WriteJob:
    """What every region's task shares that writes it, too."""

    job: RegionJob
    where: str
    """Absolute path or URL of the output."""
    image: PyramidLayout
    maps: dict[str, PyramidLayout]
    """What the fuser gives beside the image, by the name of its image in the store."""


def write_region(write: WriteJob, row: int, column: int) -> Cost:
    """One task: fuse the region in that row and column of the grid and write it to the output."""
    keep_freed_memory()  # in a worker's process, where nothing has asked for it yet
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
        for name, found in _maps_of(job.fuser, fused, write.maps).items():
            layout = write.maps[name]
            block = found.reshape(-1, *found.shape[-2:])
            if name == DEPTH:  # of few planes: any integers, which uint8 holds
                block = block.astype(layout.dtype, copy=False)
            _check_map(job.fuser, name, block, layout)
            layout.write_region(write.where, name, place, block)
            cost.written_bytes += block.nbytes
    return cost


def _maps(fused: Fused) -> dict[str, npt.NDArray[Any]]:
    """What the fuser gave beside the image (…, Y, X), by the name of its image in the store."""
    maps = {DEPTH: fused.depth, CONFIDENCE: fused.confidence, **fused.maps}
    return {name: found for name, found in maps.items() if found is not None}


def _maps_of(fuser: Fuser, fused: Fused, expected: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    found = _maps(fused)
    if set(found) != set(expected):
        raise PluginError(
            f"fuser {fuser.name!r} gave {sorted(found)} beside the image of a region, and "
            f"{sorted(expected)} when it was asked first: it must give the same in every call"
        )
    return found


def _check_map(fuser: Fuser, name: str, block: npt.NDArray[Any], layout: PyramidLayout) -> None:
    """A map of another dtype would be cut off, and further images of it lost."""
    given, expected = (len(block), block.dtype.name), (layout.shape0[0], layout.dtype)
    if given != expected:
        raise PluginError(
            f"fuser {fuser.name!r} gave {given[0]} x {given[1]} as {name!r} beside the image of a "
            f"region, and {expected[0]} x {expected[1]} when it was asked first: it must give as "
            "many images of the same dtype in every call"
        )


def _kinds_of_maps(
    fuser: Fuser, shape: tuple[int, int, int, int], dtype: str
) -> dict[str, tuple[int, str]]:
    """What the fuser gives beside the image, with number of images and dtype: asked of it with one
    small window (Z, C, Y, X)."""
    # Not of zeros: a window of glass is not fused, and would not show that a GPU is missing.
    noise = np.random.default_rng(0).integers(0, 2, shape)
    window = noise.astype(dtype) * np.dtype(dtype).type(100)
    found = _maps(fuse_array(fuser, window.swapaxes(0, 1)))
    return {n: (len(m) if m.ndim == 3 else 1, m.dtype.name) for n, m in found.items()}


def _ask_for_maps(plan: FusePlan, client: Any | None) -> dict[str, tuple[int, str]]:
    side = plan.fuser.footprint.period
    question = (
        plan.fuser,
        (len(plan.planes), plan.stack.shape[0], side, side),
        plan.stack.dtype.name,
    )
    resources = resources_for(plan.fuser)
    if client is None or resources is None:
        return _kinds_of_maps(*question)
    # This machine need not have what the fuser runs on.
    with out_of_the_way(client):
        asked = client.submit(_kinds_of_maps, *question, resources=resources, pure=False)
        while not asked.done():
            check_stop()
            time.sleep(_POLL_SECONDS)
        return dict(asked.result())


def _map_image(plan: FusePlan, slide: ImageSpec, name: str, count: int, dtype: str) -> ImageSpec:
    """The depth as a label image, or another map as an image, beside the fused slide."""
    stack, layout = plan.stack, slide.layout
    slide = dataclasses.replace(slide, rgb=False)
    layout = dataclasses.replace(layout, shape0=(count, *layout.shape0[1:]), dtype=dtype)
    if name != DEPTH:
        names = [name] if count == 1 else [f"{name} {stack.offsets[z]}" for z in plan.planes]
        block = omero(names, dtype, rgb=False)
        return dataclasses.replace(slide, name=name, layout=layout, blocks={"omero": block})
    dtype = np.dtype(depth_dtype(len(plan.planes))).name
    layout = dataclasses.replace(layout, dtype=dtype, method="nearest")
    z_um = stack.z_um
    label = image_label(
        [
            {"focus_offset": stack.offsets[z], "z_um": None if z_um is None else z_um[z]}
            for z in plan.planes
        ]
    )
    return dataclasses.replace(slide, name=name, layout=layout, blocks={"image-label": label})


def written_images(plan: FusePlan, client: Any | None) -> list[ImageSpec]:
    """The slide, and the maps that its fuser gives: what an output of this plan holds."""
    stack, target = plan.stack, plan.tiling.target
    channels = stack.shape[0]
    layout = PyramidLayout(
        "cyx", (channels, target.height, target.width), stack.dtype.name, plan.tiling.region_px
    )
    block = omero(stack.channel_names, stack.dtype.name, rgb=stack.rgb, looks=stack.looks)
    y, x = stack.places(target)
    origin = float(y[0]), float(x[0])
    slide = ImageSpec(
        "", layout, stack.pixel_size_um, origin=origin, blocks={"omero": block}, rgb=stack.rgb
    )
    try:
        kinds = _ask_for_maps(plan, client)
    except (PluginError, UsageError):
        raise
    except Exception as error:  # of a cluster, too
        ours = isinstance(error, SlidefusionError)
        cause = str(error) if ours else f"{type(error).__name__}: {error}"
        raise ProcessingError(
            f"fuser {plan.fuser.name!r} was tried on a first small window: {cause}"
        ) from error
    return [slide, *(_map_image(plan, slide, name, *kinds[name]) for name in kinds)]


def write_slide(plan: FusePlan, out: str | os.PathLike[str], options: RunOptions) -> None:
    """Fuse the regions that are not finished yet into the slide at ``out`` (see ``fuse``)."""
    stack, tiling, target = plan.stack, plan.tiling, plan.tiling.target
    provenance = plan.provenance
    stores = () if stack.store is None else (stack.store,)
    files, urls = [s for s in stores if not is_url(s)], [s for s in stores if is_url(s)]
    job = (plan.fuser, stack.source)
    needs = needs_of_all(options.client, provenance["software"], files, job, urls)
    images = written_images(plan, options.client)
    settings = {
        "input": stack.identity,
        "fuser": provenance["fuser"],
        "options": provenance["options"],
        "planes": provenance["planes"],
        "planes_z_um": provenance["planes_z_um"],
        "pixel_size_um": stack.pixel_size_um,
        "origin": stack.origin,
        "crop": provenance["crop"],
        "region_px": tiling.region_px,
        "software": provenance["software"],
    }
    output = Output(
        out,
        images,
        settings=settings,
        attributes={
            **provenance,
            "region_px": tiling.region_px,
            "fingerprint": fingerprint_of(settings),
        },
        count=tiling.count,
        inputs=stack.inputs,
        overwrite=options.overwrite,
        again=options.verify,
    )
    tasks = RegionTasks(
        name=f"fuse-{plan.fuser.name}",
        label=f"fusing ({plan.fuser.name})",
        function=write_region,
        keys=list(tiling.regions()),
        place=lambda key: (tiling.region(*key).relative_to(target), (None,)),
        megapixels=target.height * target.width * len(plan.planes) / 1e6,
        resources=resources_for(plan.fuser),
        needs=needs,
        check_input=partial(check_unchanged, stack.source, stack.identity),
    )
    slide, *maps = output.images
    layouts = {image.name: image.layout for image in maps}
    write = WriteJob(plan.job, output.where, slide.layout, layouts)
    try:
        run_regions([output], tasks, write, options)
    finally:
        give_back_freed_memory()
