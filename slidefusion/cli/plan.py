"""``slidefusion plan``."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slidefusion.cli.option_values import passed_on, region_side
from slidefusion.cli.shared_options import ClientOption, Options, cluster, numbers
from slidefusion.wording import byte_text, counted

if TYPE_CHECKING:
    from slidefusion.verbs.plan_fuse import FuseEstimate

__all__ = ["plan"]


def plan(
    stack: Annotated[str, typer.Argument(help="OME-Zarr focus stack: a path or URL.")],
    fuser: Annotated[
        str, typer.Argument(help="Name of an installed fuser; see 'slidefusion fusers'.")
    ] = "lpp",
    *,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="STORE",
            help="Where the slide would go: check the free space. Nothing is written there.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Worker processes; this machine's threads in one process by default."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Tasks that a worker runs at once; 1 with --workers.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of each worker, such as 4GiB."),
    ] = None,
    sample: Annotated[int, typer.Option(help="Number of regions to time.")] = 6,
    planes: Annotated[
        str | None, typer.Option(metavar="OFFSETS", help="Focus offsets of the planes to use.")
    ] = None,
    crop: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(metavar="Y X H W", help="Fuse only this rectangle, in level-0 pixels."),
    ] = None,
    chunks: Annotated[
        str, typer.Option(metavar="PX|auto", help="Side of a region in pixels.")
    ] = "auto",
    option: Options = None,
    device: Annotated[
        str, typer.Option(help="Where the fuser computes: auto, or what it allows.")
    ] = "auto",
    client: ClientOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what 'fuse' with the same options will need and take.

    Prints regions, bytes, memory of a worker, and an estimate of the time from a few regions that
    are fused for real. What does not fit into a worker's memory, or on the disk at --out, is
    refused.

    \b
    Examples:
      slidefusion plan stack.zarr --out slide.zarr
      slidefusion plan stack.zarr wt --workers 16 --memory-limit 4GiB
      slidefusion plan stack.zarr --client tcp://10.0.0.5:8786 --json
    """
    import slidefusion as sf

    options = passed_on(sf.plan_fuse, fuser, option, device)
    offsets = numbers("--planes", planes, int)
    side = region_side(chunks)
    with cluster(client) as connected:
        found = sf.plan_fuse(
            stack,
            fuser,
            planes=offsets,
            out=out,
            crop=crop,
            chunks=side,
            client=connected,
            workers=workers,
            threads=threads,
            memory_limit=memory_limit,
            sample=sample,
            **options,
        )
    if as_json:
        print(json.dumps(_as_dict(found), indent=2))
    else:
        _show(found, f"{fuser} of {stack}")


def _as_dict(found: FuseEstimate) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(found) | {
        "task_seconds": found.task_seconds,
        "worker_seconds": found.worker_seconds,
        "wall_seconds": found.wall_seconds,
    }


def _show(found: FuseEstimate, title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A path is no markup, whatever brackets it has.
    table = Table(title=Text(title, "table.title"), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in _rows(found):
        table.add_row(name, text)
    Console(soft_wrap=True).print(table)


def _rows(found: FuseEstimate) -> list[tuple[str, str]]:
    timing = found.timing
    halo = found.halo_bytes / max(1, found.read_bytes - found.halo_bytes)
    free = "" if found.free_bytes is None else f" ({byte_text(found.free_bytes)} free)"
    seconds = [region.seconds for region in timing.sample]
    rates = [region.window_px * found.planes / 1e6 / region.seconds for region in timing.sample]
    peak = max(region.peak_bytes for region in timing.sample)
    total = found.task_seconds or 1e-9
    parts = (("reading", timing.read_s), ("fusing", timing.fuse_s), ("writing", timing.write_s))
    return [
        ("regions", f"{found.regions:,} of {found.region_px} px, one task each"),
        ("planes", f"{found.planes}: {found.megapixel_planes:,.0f} megapixel-planes"),
        ("to read", f"{byte_text(found.read_bytes)} of pixels, {halo:.0%} of it halo on top"),
        (
            "to write",
            f"{byte_text(found.write_bytes)} of pixels; about {byte_text(found.stored_bytes)} on "
            f"disk with pyramid and maps{free}",
        ),
        (
            "memory a worker",
            f"{byte_text(found.memory_needed_bytes)} at most, "
            f"{byte_text(found.memory_allowed_bytes)} allowed; {byte_text(peak)} seen in the "
            "sample",
        ),
        (
            "sample",
            f"{counted(len(seconds), 'region')}, {min(seconds):.2f} to "
            f"{max(seconds):.2f} s (median {statistics.median(seconds):.2f} s), "
            f"{min(rates):.1f} to {max(rates):.1f} megapixel-planes a second",
        ),
        ("spent on", ", ".join(f"{name} {part / total:.0%}" for name, part in parts)),
        ("one thread", _time(found.task_seconds)),
        (
            f"{counted(found.workers, 'worker')} of {found.threads}",
            f"{_time(found.wall_seconds)} and {_time(found.start_seconds)} to start, "
            f"{found.worker_seconds:,.1f} worker-seconds",
        ),
    ]


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
