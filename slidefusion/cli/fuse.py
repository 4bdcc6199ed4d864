"""``slidefusion fuse``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from slidefusion.cli.option_values import passed_on, region_side
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
from slidefusion.wording import counted

__all__ = ["fuse"]


def fuse(
    stack: Annotated[str, typer.Argument(help="OME-Zarr focus stack: a path or URL.")],
    fuser: Annotated[
        str, typer.Argument(help="Name of an installed fuser; see 'slidefusion fusers'.")
    ] = "lpp",
    *,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="STORE", help="OME-Zarr slide to write.")
    ],
    planes: Annotated[
        str | None,
        typer.Option(
            metavar="OFFSETS",
            help="Focus offsets of the planes to use, 0 the reference plane; all by default.",
        ),
    ] = None,
    crop: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(metavar="Y X H W", help="Fuse only this rectangle, in level-0 pixels."),
    ] = None,
    chunks: Annotated[
        str,
        typer.Option(metavar="PX|auto", help="Side of a region in pixels: what one task fuses."),
    ] = "auto",
    option: Options = None,
    device: Annotated[
        str, typer.Option(help="Where the fuser computes: auto, or what it allows.")
    ] = "auto",
    client: ClientOption = None,
    overwrite: Overwrite = False,
    verify: VerifyOption = False,
    retries: RetriesOption = 3,
    report: ReportOption = None,
    progress: ProgressOption = True,
) -> None:
    """Fuse a focus stack into one all-in-focus OME-Zarr slide.

    An interrupted run continues when it is repeated. The result does not depend on how the slide
    is cut (--chunks) or where it runs.

    \b
    Examples:
      slidefusion fuse stack.zarr --out slide.zarr
      slidefusion fuse stack.zarr lpp -o slide.zarr -O levels=4 -O selection=max
      slidefusion fuse stack.zarr -o few.zarr --planes=-1,0,1
      slidefusion fuse stack.zarr -o part.zarr --crop 2048 4096 1024 1024
      slidefusion fuse s3://bucket/stack.zarr -o slide.zarr --client tcp://10.0.0.5:8786
    """
    import slidefusion as sf

    options = passed_on(sf.fuse, fuser, option, device)
    offsets = numbers("--planes", planes, int)
    side = region_side(chunks)
    started = time.perf_counter()
    with cluster(client) as connected:
        slide = sf.fuse(
            stack,
            fuser,
            planes=offsets,
            out=out,
            crop=crop,
            chunks=side,
            client=connected,
            progress=progress,
            overwrite=overwrite,
            verify=verify,
            retries=retries,
            report=report,
            **options,
        )
    channels, height, width = slide.shape
    count = len(slide.attrs["slidefusion"]["planes"])
    seconds = time.perf_counter() - started
    print(
        f"{out}: {height} x {width} px, {counted(channels, 'channel')}, {fuser} of "
        f"{counted(count, 'plane')}, {seconds:.1f} s"
    )
