"""A few regions of a plan, fused and written for real to see what the others will take.

What a region costs depends on how much is in it: empty glass is only read. So the regions are told
apart by a thumbnail of one plane, the sample has poor and rich ones, and each of the others is
expected to take what the sample says for its content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError
from slidefusion.omezarr.members import made_group
from slidefusion.omezarr.store import create_group
from slidefusion.overview import SlideOverview
from slidefusion.plan import FusePlan
from slidefusion.tasks.costs import Cost
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.placement import resources_for
from slidefusion.tasks.scheduling import run_tasks
from slidefusion.tiling import Tiling
from slidefusion.write_slide import WriteJob, write_region, written_images

__all__ = ["SampledRegion", "Timing", "region_contents", "spread_choice", "take_sample"]

_LARGEST_LEVEL = 64_000_000
"""Pixels a plane up to which the coarsest level of a stack is read to look for content."""
_RICH = 0.9
"""Quantile of the contrast in a slide from which on more contrast is not more content."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SampledRegion:
    """One region of the sample."""

    row: int
    column: int
    content: float
    """0 to 1: how much of it is more than glass, as far as a thumbnail shows."""
    window_px: int
    """Pixels a plane that it reads."""
    cost: Cost
    """What it took."""
    stored_bytes: int
    """What it wrote, encoded, with its part of the pyramid."""
    peak_bytes: int
    """Largest resident size of the process that ran it, so far."""

    @property
    def seconds(self) -> float:
        """Reading, fusing and writing."""
        return self.cost.read_s + self.cost.fuse_s + self.cost.write_s


@dataclass(frozen=True)
class Timing:
    """A sample, and what it says of all regions together."""

    sample: tuple[SampledRegion, ...]
    read_s: float
    """Of all regions, in seconds of one thread."""
    fuse_s: float
    write_s: float
    written_bytes: float
    """Pixels at level 0, with the maps, before they are encoded."""
    stored_bytes: float
    """Encoded, with the pyramid."""
    start_s: float
    """What the first regions took longer than the others: compiling, loading, opening."""


def take_sample(plan: FusePlan, size: int, at_once: int) -> Timing:
    """Fuse ``size`` regions, ``at_once`` side by side, and expect the others to be like them.

    The regions are written into a temporary folder of the machine that runs them. Each place runs a
    region first that is not counted: it compiles and opens what the later ones find ready.

    Raises
    ------
    SlidefusionError
        What a region raises when it cannot be read, fused or written.
    """
    tiling = plan.tiling
    contents, pixels = region_contents(plan), window_pixels(tiling)
    chosen = spread_choice(contents.ravel(), pixels.ravel(), min(size, tiling.count))
    keys = [divmod(index, tiling.grid[1]) for index in chosen]
    slide, *maps = written_images(plan, plan.client)
    job = WriteJob(plan.job, "", slide.layout, {image.name: image.layout for image in maps})
    with _threads(at_once if plan.client is None else None):
        clock = time.perf_counter()
        _run(plan, job, [keys[k % len(keys)] for k in range(at_once)])
        first_s = time.perf_counter() - clock
        outcomes = _run(plan, job, keys)
    sample = []
    for (row, column), outcome in zip(keys, outcomes, strict=True):
        cost, stored = outcome.value
        content, window = float(contents[row, column]), int(pixels[row, column])
        sample.append(SampledRegion(row, column, content, window, cost, stored, outcome.peak_bytes))

    def total(values: Sequence[float]) -> float:
        rates = [value / region.window_px for value, region in zip(values, sample, strict=True)]
        found = predict([region.content for region in sample], rates, contents.ravel())
        return float((found * pixels.ravel()).sum())

    levels, target = slide.layout.region_levels, tiling.target
    sampled_px = sum(region.height * region.width for region in (tiling.region(*k) for k in keys))
    written = sum(region.cost.written_bytes for region in sample)
    return Timing(
        tuple(sample),
        total([region.cost.read_s for region in sample]),
        total([region.cost.fuse_s for region in sample]),
        total([region.cost.write_s for region in sample]),
        written / sampled_px * target.height * target.width,
        # The levels that are made at the end continue the series 1 + 1/4 + 1/16 + …
        total([region.stored_bytes for region in sample]) / (1 - 0.25**levels),
        max(0.0, first_s - statistics.median(region.seconds for region in sample)),
    )


def predict(known: Sequence[float], values: Sequence[float], contents: Floats) -> Floats:
    """Values at ``contents``: the line through the sample, nowhere beyond what the sample has.

    >>> predict([0.0, 1.0], [1.0, 3.0], np.array([0.5, 2.0])).tolist()
    [2.0, 3.0]
    """
    x, y = np.asarray(known, float), np.asarray(values, float)
    slope = 0.0
    if float(np.ptp(x)) > 1e-6:
        slope = float(np.cov(x, y, bias=True)[0, 1] / x.var())
    line = y.mean() + slope * (contents - x.mean())
    return np.asarray(np.clip(line, y.min(), y.max()), np.float64)


def spread_choice(contents: Floats, pixels: Floats, count: int) -> list[int]:
    """Indices of ``count`` regions from the poorest to the richest, the richest always among them.

    Half of them are spread evenly over the contents that there are, half over the regions in the
    order of their content. Small regions at the edge come last.

    >>> spread_choice(np.array([0.0, 0.0, 0.2, 1.0]), np.full(4, 9.0), 2)
    [3, 0]
    """
    whole = np.flatnonzero(pixels >= 0.5 * pixels.max())
    if len(whole) < count:
        whole = np.arange(len(pixels))
    # Where all are alike any will do; then they lie all over the slide.
    order = np.random.default_rng(0).permutation(whole)
    order = order[np.argsort(contents[order], kind="stable")]
    values, last = contents[order], len(order) - 1
    inner = max(0, count - 2)
    steps = np.linspace(0, 1, inner - inner // 2 + 2)[1:-1]
    by_value = np.abs(values[:, None] - (values[0] + steps * (values[-1] - values[0]))).argmin(0)
    by_rank = np.linspace(0, last, inner // 2 + 2)[1:-1].round()
    free, chosen = np.ones(len(order), bool), []
    for wanted in [last, 0, *by_value, *by_rank][:count]:
        rank = int(np.where(free, np.abs(np.arange(len(order)) - wanted), np.inf).argmin())
        free[rank] = False
        chosen.append(int(order[rank]))
    return chosen


def window_pixels(tiling: Tiling) -> Floats:
    """Pixels a plane that each region reads, inside the slide: (rows, columns) of the grid."""
    rows, columns = tiling.grid
    heights, widths = np.empty(rows), np.empty(columns)
    for row in range(rows):
        window = tiling.window(tiling.region(row, 0))
        heights[row] = min(window.bottom, tiling.size.height) - window.y
    for column in range(columns):
        window = tiling.window(tiling.region(0, column))
        widths[column] = min(window.right, tiling.size.width) - window.x
    return heights[:, None] * widths[None]


def region_contents(plan: FusePlan) -> Floats:
    """How much is in each region, 0 to 1: (rows, columns) of the grid; zeros when nobody knows.

    It is the mean contrast of neighbouring pixels in a thumbnail of the middle plane. A large stack
    without a pyramid is not read for that.
    """
    tiling, stack = plan.tiling, plan.stack
    rows, columns = tiling.grid
    coarsest = (stack.levels or (stack.source,))[-1]
    assert coarsest is not None
    if coarsest.shape[2] * coarsest.shape[3] > _LARGEST_LEVEL:
        return np.zeros((rows, columns))
    middle = plan.planes[len(plan.planes) // 2]
    thumbnail = SlideOverview(stack, [middle]).thumbnail[0].astype(np.float64).max(axis=0)
    down, across = np.abs(np.diff(thumbnail, axis=0)), np.abs(np.diff(thumbnail, axis=1))
    contrast = np.zeros_like(thumbnail)
    contrast[1:] += down
    contrast[:, 1:] += across
    rich = float(np.quantile(contrast, _RICH)) or float(contrast.max()) or 1.0
    contrast = np.minimum(contrast / rich, 1.0)
    area = np.pad(contrast.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = thumbnail.shape
    y = _spans(
        [(r.y, r.bottom) for r in (tiling.region(k, 0) for k in range(rows))],
        height / tiling.size.height,
        height,
    )
    x = _spans(
        [(r.x, r.right) for r in (tiling.region(0, k) for k in range(columns))],
        width / tiling.size.width,
        width,
    )
    sums = area[y[1]][:, x[1]] - area[y[0]][:, x[1]] - area[y[1]][:, x[0]] + area[y[0]][:, x[0]]
    return np.asarray(sums / ((y[1] - y[0])[:, None] * (x[1] - x[0])[None]))


def _spans(
    ranges: list[tuple[int, int]], scale: float, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ranges of pixels as ranges of a thumbnail's, none empty."""
    found = np.asarray(ranges, float) * scale
    start = np.clip(np.floor(found[:, 0]).astype(int), 0, length - 1)
    stop = np.clip(np.ceil(found[:, 1]).astype(int), start + 1, length)
    return start, stop


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Within it, that many of this machine's threads run tasks."""
    if count is None:
        yield
        return
    import dask

    with dask.config.set(num_workers=count):
        yield


def _run(plan: FusePlan, job: WriteJob, keys: Sequence[tuple[int, int]]) -> list[Outcome]:
    ended: dict[int, Outcome] = {}

    def note(key: tuple[int, ...], outcome: Outcome) -> None:
        ended[key[2]] = outcome

    run_tasks(
        _try_region,
        job,
        [(*key, number) for number, key in enumerate(keys)],
        client=plan.client,
        name="sample",
        resources=resources_for(plan.fuser),
        describe=lambda key: f"the sample, region {key[:2]} (row, column)",
        on_outcome=note,
    )
    return [ended[number] for number in range(len(keys))]


def _try_region(write: WriteJob, row: int, column: int, number: int) -> tuple[Cost, int]:
    """Fuse and write one region into a folder that is deleted: what it took, and bytes on disk."""
    try:
        with tempfile.TemporaryDirectory(prefix="slidefusion-sample-") as folder:
            where = str(Path(folder, "slide.zarr"))
            group = create_group(where, {})
            for name, layout in {"": write.image, **write.maps}.items():
                layout.create(made_group(group, name), where)
            cost = write_region(dataclasses.replace(write, where=where), row, column)
            files = (path for path in Path(where).rglob("c/**/*") if path.is_file())
            return cost, sum(path.stat().st_size for path in files)
    except OSError as error:
        raise ProcessingError(
            f"the sample cannot be written to {tempfile.gettempdir()}: {error}; make room there, "
            "or choose another folder with the environment variable TMPDIR"
        ) from error
