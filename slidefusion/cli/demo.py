"""``slidefusion demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from slidefusion.cli.shared_options import ProgressOption

__all__ = ["demo"]


def demo(
    out: Annotated[str, typer.Argument(help="Folder to make.")] = "slidefusion-demo",
    size: Annotated[int, typer.Option(help="Side of the slide in pixels.")] = 3072,
    planes: Annotated[int, typer.Option(help="Number of focal planes.")] = 11,
    seed: Annotated[int, typer.Option(help="Seed of the specimen.")] = 0,
    fuser: Annotated[str, typer.Option(help="Fuser to show.")] = "lpp",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write into a folder that the demo did not make; only files that bear the demo's "
            "names are replaced.",
        ),
    ] = False,
    progress: ProgressOption = True,
) -> None:
    """Make, convert, fuse and measure a synthetic slide.

    Writes a slide file (OME-TIFF) with its truth, converts it to OME-Zarr, fuses that, measures
    the result, and shows everything in report.html. Takes under a minute on two cores at the
    default size. A folder that an earlier demo made is used again.

    \b
    Examples:
      slidefusion demo
      slidefusion demo /tmp/demo --size 4096 --seed 7
    """
    from slidefusion.demo import run_demo

    run_demo(
        out,
        size=size,
        planes=planes,
        seed=seed,
        fuser=fuser,
        overwrite=overwrite,
        progress=progress,
        say=print,
    )
