"""What a call of ``fuse`` will do, decided and checked before anything is read or written."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slidefusion import memory
from slidefusion.dask_source import dask_source
from slidefusion.declarations import check_declarations, missing_attributes, options_of, prepared
from slidefusion.engine import PlaneSource
from slidefusion.errors import OptionError, StackError
from slidefusion.fuser import Fuser
from slidefusion.geometry import Size, Window, as_whole
from slidefusion.omezarr.output import stored_region_px
from slidefusion.registry import FUSERS, fuser_options, get_fuser, plugins
from slidefusion.stack import FocusStack, plane_indices
from slidefusion.stack_inputs import as_stack
from slidefusion.tasks.clients import active_client
from slidefusion.tasks.placement import check_placement, worker_bytes
from slidefusion.tasks.pools import parallelism
from slidefusion.tiling import Tiling

__all__ = ["FusePlan", "RegionJob", "chosen_fuser", "make_plan"]


@dataclass(frozen=True)
class FusePlan:
    """A stack, the fuser that is ready for it, and how the slide is cut."""

    stack: FocusStack
    fuser: Fuser
    planes: tuple[int, ...]
    tiling: Tiling
    client: Any | None

    @property
    def job(self) -> RegionJob:
        """What every region's task shares."""
        assert self.stack.source is not None
        return RegionJob(self.fuser, self.stack.source, self.planes, self.tiling)

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the image: versions, fuser, options, planes and where they came from."""
        return {
            "kind": "slide",
            "software": {"slidefusion": _version("slidefusion"), **_fuser_software(self.fuser)},
            "fuser": self.fuser.name,
            "options": options_of(self.fuser),
            "planes": [self.stack.offsets[z] for z in self.planes],
            "planes_z_um": None
            if self.stack.z_um is None
            else [self.stack.z_um[z] for z in self.planes],
            "crop": None if self.tiling.area is None else list(self.tiling.area),
            "source": {"store": self.stack.store, **self.stack.provenance},
        }


def make_plan(
    stack: Any,
    fuser: str | Fuser,
    planes: Sequence[int] | None,
    crop: tuple[int, int, int, int] | None,
    chunks: int | Literal["auto"],
    client: Any | None,
    device: str,
    out: str | os.PathLike[str] | None,
    options: dict[str, Any],
    retries: int = 3,
) -> FusePlan:
    """Resolve the arguments of :func:`slidefusion.fuse` (see there), in the order of their cost."""
    chosen = chosen_fuser(fuser, device, options)
    _check_options(chosen)
    focus_stack = as_stack(stack)
    indices = plane_indices(focus_stack, planes)
    if len(indices) not in chosen.planes:
        raise StackError(
            f"fuser {chosen.name!r} takes {chosen.planes} planes, and {len(indices)} were given; "
            f"choose with planes= out of the focus offsets {list(focus_stack.offsets)}"
        )
    if focus_stack.source is None:
        focus_stack = dataclasses.replace(focus_stack, source=dask_source(focus_stack.lazy))
    assert focus_stack.source is not None
    client = active_client(client)
    channels, _, height, width = focus_stack.shape
    size = Size(height, width)
    area = _area(crop, size)
    itemsize = focus_stack.dtype.itemsize
    check_placement(chosen, client)
    parallel, total = parallelism(client), worker_bytes(client, chosen)
    if hasattr(chosen, "prepare"):
        from slidefusion.overview import SlideOverview

        chosen = prepared(chosen, SlideOverview(focus_stack, indices, retries))
        _check_options(chosen)
    count = len(indices)
    # What is there continues, or is repaired, with the same regions.
    forced = stored_region_px(out) if chunks == "auto" and out is not None else None
    if chunks == "auto":
        side = forced or memory.choose_region_px(
            chosen, size, count, channels, itemsize, parallel, area, total
        )
    else:
        side = _region_px(chunks)
    tiling = Tiling(size, side, chosen.footprint, area)
    memory.check(
        chosen, tiling, count, channels, itemsize, parallel, total, forced=forced is not None
    )
    return FusePlan(focus_stack, chosen, indices, tiling, client)


def chosen_fuser(fuser: str | Fuser, device: str, options: dict[str, Any]) -> Fuser:
    """The fuser that these arguments of :func:`slidefusion.fuse` (see there) mean, checked."""
    if isinstance(fuser, str):
        if device != "auto":
            if "device" in {info.name for info in fuser_options(fuser)}:
                options = {**options, "device": device}
            elif device != "cpu":
                raise OptionError(
                    f"device={device!r}: the fuser {fuser!r} runs on the CPU only; leave device out"
                )
        return get_fuser(fuser, **options)
    if isinstance(fuser, type):
        raise OptionError(f"fuser={fuser.__name__} is a class: give an object, {fuser.__name__}()")
    if missing_attributes(fuser):
        raise OptionError(
            f"fuser={fuser!r} is neither the name of an installed fuser nor a fuser object; see "
            "slidefusion.fusers() and slidefusion.fuser.Fuser"
        )
    if options:
        raise OptionError(
            f"options {sorted(options)} were given together with a fuser object; set them on the "
            "object, or give the fuser by name"
        )
    return check_declarations(fuser, f"the fuser {type(fuser).__name__}")


def _region_px(chunks: Any) -> int:
    side = as_whole(chunks)
    if side is None or side < 1:
        raise OptionError(
            f"chunks={chunks!r}: give the side of a region in pixels (1 or more), or 'auto'"
        )
    return side


def _area(crop: tuple[int, int, int, int] | None, size: Size) -> Window | None:
    if crop is None:
        return None
    try:
        y, x, height, width = map(operator.index, crop)
    except (TypeError, ValueError):
        raise OptionError(
            f"crop={crop!r}: give (y, x, height, width) in whole pixels of level 0"
        ) from None
    area = Window(y, x, height, width)
    return None if area == Window(0, 0, *size) else area


def _check_options(fuser: Fuser) -> None:
    """The slide's record says with which options it was made, as JSON."""
    for name, value in options_of(fuser).items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise OptionError(
                f"the option {name}={value!r} of the fuser {fuser.name!r} cannot be recorded with "
                "the slide: options are finite numbers, text, True, False, None, and lists of "
                "these (of a NumPy number give its .item())"
            ) from None


def _version(distribution: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _fuser_software(fuser: Fuser) -> dict[str, str]:
    """Distribution and version that the fuser comes from, or its class if it comes from none.

    The distribution is found by the fuser's class, since several distributions may claim its name.
    An entry point need not name the class: it may name a function, or another module that imports
    the class. The distribution is then found among those whose entry points lie in the same package
    as the class, by the module or the fuser's name, or because there is only one.
    """
    module, name = type(fuser).__module__, type(fuser).__qualname__
    registered = plugins(FUSERS)
    near = [plugin for plugin in registered if _package(plugin.target) == _package(module)]
    of_class = [plugin for plugin in near if plugin.target == f"{module}:{name}"]
    of_module = [plugin for plugin in near if plugin.target.partition(":")[0] == module]
    of_name = [plugin for plugin in near if plugin.name == fuser.name]
    alone = near if len({plugin.distribution for plugin in near}) == 1 else []  # no namespace
    for plugin in (*of_class, *of_module, *of_name, *alone):
        return {plugin.distribution: plugin.version}
    return {f"{module}:{name}": "unregistered"}


def _package(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]


@dataclass(frozen=True, eq=False)
class RegionJob:
    """What every region's task shares; a few hundred bytes when the source is a store."""

    fuser: Fuser
    source: PlaneSource
    planes: tuple[int, ...]
    tiling: Tiling
