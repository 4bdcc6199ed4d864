"""The steps of the demo, each timed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slidefusion.demo.folder import DemoFolder
from slidefusion.demo.measure import Measured, Opened, measure, middle
from slidefusion.errors import OptionError
from slidefusion.geometry import Size, Window
from slidefusion.phantom import Phantom
from slidefusion.run_options import check_flags

__all__ = ["DemoResult", "run_demo"]

_SMALLEST_PX = 128


@dataclass
class DemoResult:
    """What the demo made and found."""

    folder: Path
    measured: Measured
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds of each step, in order."""

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"


def run_demo(
    out: str | Path = "slidefusion-demo",
    *,
    size: int = 3072,
    planes: int = 11,
    seed: int = 0,
    fuser: str = "lpp",
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] | None = None,
) -> DemoResult:
    """Make a synthetic slide file in the folder ``out``, convert, fuse, measure and report.

    Parameters
    ----------
    out
        Folder to make. One that an earlier demo made is used again.
    size, planes, seed
        Side in px, focal planes and specimen of the slide.
    fuser
        Name of the fuser.
    overwrite
        Write into a folder that the demo did not make; only files that bear the demo's names are
        replaced.
    progress
        Show progress bars on a terminal.
    say
        Called with each line of what happens; nothing is printed by default.

    Raises
    ------
    OutputError
        ``out`` is a file, or holds what the demo did not make.
    OptionError
        A size, number of planes or seed that no phantom has.
    ProcessingError
        A step failed midway.

    >>> run_demo("/tmp/demo", size=512, planes=5).report  # doctest: +SKIP
    PosixPath('/tmp/demo/report.html')
    """
    import slidefusion as sf
    from slidefusion.demo.report import write_report

    check_flags(overwrite=overwrite, progress=progress)
    if size < _SMALLEST_PX or planes < 2:
        raise OptionError(
            f"size={size}, planes={planes}: the demo needs a side of at least {_SMALLEST_PX} px "
            "and 2 planes"
        )
    phantom = Phantom(size, size, planes=planes, seed=seed)
    takes = sf.get_fuser(fuser).planes  # refuse what cannot be before anything is written
    if planes not in takes:
        raise OptionError(
            f"{fuser} takes {takes} planes, and the demo's slide has {planes}: choose another "
            "fuser (--fuser), or another number of planes (--planes)"
        )
    folder = DemoFolder.begin(Path(out), overwrite=overwrite)
    timer = _Timer(say or (lambda _: None))
    timer.say(f"a synthetic slide of {size} x {size} px, {planes} planes, goes into {folder.path}")

    with timer.step("slide file", lambda: f"{folder.slide.name}, {_megabytes(folder.slide)}"):
        make_slide_file(phantom, folder, progress=progress)
    with timer.step("convert", lambda: folder.stack.name):
        sf.convert(str(folder.slide), folder.stack, progress=progress)
    with timer.step("fuse", lambda: f"{folder.fused.name}, {fuser}"):
        sf.fuse(folder.stack, fuser, out=folder.fused, progress=progress)
    with timer.step("measure", lambda: "against truth.zarr"):
        opened = open_results(folder)
        measured = measure(opened)
    result = DemoResult(folder.path, measured, timer.seconds)
    with timer.step("report", lambda: folder.report.name):
        write_report(folder, opened, measured, phantom, timer.seconds)
    scores = {
        "fused": measured.fused,
        "mean": measured.mean,
        "planes": dict(zip(map(str, opened.offsets), measured.planes, strict=True)),
        "depth_error_um": measured.depth_error_um,
        "seconds": timer.seconds,
    }
    folder.scores.write_text(json.dumps(scores, indent=2))
    best = measured.planes[measured.best]["ssim"]
    timer.say(
        f"SSIM to the truth: fused {measured.fused['ssim']:.4f}, best single plane {best:.4f}, "
        f"mean of the planes {measured.mean['ssim']:.4f}"
    )
    timer.say(f"{sum(timer.seconds.values()):.1f} s in all; open {folder.report}")
    return result


def make_slide_file(phantom: Phantom, folder: DemoFolder, *, progress: bool) -> None:
    """Write the OME-TIFF, the truth and the depth; each region is rendered once, for all three."""
    from slidefusion.demo.slide_file import TILE_PX, SlideFile
    from slidefusion.run_options import RunOptions
    from slidefusion.verbs.phantom import render_into, truth_sinks

    slide = SlideFile.create(folder.slide, phantom)
    options = RunOptions(progress=progress, overwrite=True)
    truths = truth_sinks(phantom, folder.truth, folder.depth, TILE_PX, options)
    render_into(phantom, truths, TILE_PX, options, label="rendering", also=[slide])


def open_results(folder: DemoFolder) -> Opened:
    """Read what is measured and shown: at most 4096 px a side of each result."""
    import slidefusion as sf

    stack = sf.open_stack(folder.stack)
    area = middle(*stack.shape[-2:])
    rows, columns = area.slices
    fused = sf.open_slide(folder.fused)
    z_um = np.asarray(stack.z.values, np.float32)
    fused_depth = None
    labels = folder.fused / "labels" / "depth"
    if labels.is_dir():
        fused_depth = z_um[sf.open_slide(labels)[0, rows, columns].values]
    return Opened(
        Size(*stack.shape[-2:]),
        area,
        _LazyPlanes(stack, area),
        fused=fused[:, rows, columns].values,
        truth=sf.open_slide(folder.truth)[:, rows, columns].values,
        depth_um=sf.open_slide(folder.depth)[0, rows, columns].values,
        fused_depth_um=fused_depth,
        z_um=tuple(float(z) for z in z_um),
        offsets=tuple(int(k) for k in stack.focus_offset.values),
        pixel_size_um=float(stack.x[1] - stack.x[0]),
    )


class _LazyPlanes:
    """Planes (C, Y, X) of the measured area, or windows of it, read when they are asked for."""

    def __init__(self, stack: Any, area: Window) -> None:
        self._stack = stack
        self._area = area

    def __getitem__(self, k: int) -> Any:
        rows, columns = self._area.slices
        return self._stack[:, k, rows, columns].values

    def read(self, k: int, window: Window) -> Any:
        y, x = self._area.y + window.y, self._area.x + window.x
        return self._stack[:, k, y : y + window.height, x : x + window.width].values


class _Timer:
    """Times steps and says what each gave."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.seconds: dict[str, float] = {}

    def step(self, name: str, what: Callable[[], str]) -> _Step:
        return _Step(self, name, what)


class _Step:
    def __init__(self, timer: _Timer, name: str, what: Callable[[], str]) -> None:
        self._timer, self._name, self._what = timer, name, what

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            seconds = time.perf_counter() - self._started
            self._timer.seconds[self._name] = seconds
            self._timer.say(f"  {self._name:<11}{seconds:6.1f} s  {self._what()}")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"
