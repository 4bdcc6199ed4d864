"""``slidefusion convert``."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from slidefusion.cli.option_values import free_value, pairs, refuse_arguments
from slidefusion.cli.shared_options import (
    ClientOption,
    Options,
    Overwrite,
    ProgressOption,
    ReportOption,
    RetriesOption,
    VerifyOption,
    cluster,
    numbers,
)
from slidefusion.errors import UsageError
from slidefusion.wording import counted

__all__ = ["convert"]


def convert(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... OUT",
            help="A multi-plane slide file, a folder, glob or list of files, one a plane from "
            "bottom to top, or an OME-Zarr; then the OME-Zarr stack to write.",
        ),
    ],
    pixel_size_um: Annotated[
        str | None,
        typer.Option(metavar="UM", help="µm a pixel, one number or Y,X, if the file is silent."),
    ] = None,
    z_step_um: Annotated[
        float | None, typer.Option(metavar="UM", help="Distance of the planes in µm.")
    ] = None,
    z_um: Annotated[
        str | None,
        typer.Option(metavar="UM,UM,…", help="Position of every plane in µm, if unequally spaced."),
    ] = None,
    reference: Annotated[
        int | None,
        typer.Option(
            metavar="INDEX",
            help="Index of the plane with focus offset 0; the middle one by default.",
        ),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align", help="Move planes by whole pixels to where the reference plane lies."
        ),
    ] = False,
    reader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Reader to use, instead of the first to fit.")
    ] = None,
    chunk_px: Annotated[int, typer.Option(help="Longest side of a chunk in pixels.")] = 256,
    shard_px: Annotated[
        int, typer.Option(help="Longest side of a shard, which is one file, in pixels.")
    ] = 2048,
    option: Options = None,
    client: ClientOption = None,
    overwrite: Overwrite = False,
    verify: VerifyOption = False,
    retries: RetriesOption = 3,
    report: ReportOption = None,
    progress: ProgressOption = True,
) -> None:
    """Convert slides into a chunked, sharded OME-Zarr 0.5 focus stack.

    Every plane of the source is in the stack, or it is refused. An interrupted run continues when
    it is repeated. -O passes options to the reader (-O series=1, -O axes=ZCYX).

    \b
    Examples:
      slidefusion convert slide.ndpi stack.zarr
      slidefusion convert 'planes/z*.svs' stack.zarr --z-step-um 2.7
      slidefusion convert z0.png z1.png z2.png stack.zarr --pixel-size-um 0.25 --z-um=-2,0,3
      slidefusion convert stack.tif stack.zarr -O axes=ZCYX --pixel-size-um 0.25 --z-step-um 1
    """
    import slidefusion as sf

    if len(paths) < 2:
        raise UsageError(f"convert needs a source and an output; only {paths[0]!r} was given")
    *sources, out = paths
    texts = pairs(option)
    refuse_arguments(sf.convert, texts, "reader", "-O ")
    size = numbers("--pixel-size-um", pixel_size_um, float, (1, 2))
    given: dict[str, Any] = {
        "pixel_size_um": size if size is None else size[0] if len(size) == 1 else tuple(size),
        "z_step_um": z_step_um,
        "z_um": numbers("--z-um", z_um, float),
        "reference": reference,
        "align": align,
        "reader": reader,
        "chunk_px": chunk_px,
        "shard_px": shard_px,
        "progress": progress,
        "overwrite": overwrite,
        "verify": verify,
        "retries": retries,
        "report": report,
        **{name: free_value(text) for name, text in texts.items()},
    }
    source: Any = sources[0] if len(sources) == 1 else sources
    started = time.perf_counter()
    with cluster(client) as connected:
        where = sf.convert(source, out, client=connected, **given)
    shape = sf.open_stack(where).shape
    seconds = time.perf_counter() - started
    print(
        f"{out}: {counted(shape[1], 'plane')} of {shape[2]} x {shape[3]} px, "
        f"{counted(shape[0], 'channel')}, {seconds:.1f} s"
    )
