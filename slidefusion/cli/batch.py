"""``slidefusion batch``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from slidefusion.cli.shared_options import (
    ClientOption,
    ProgressOption,
    RetriesOption,
    cluster,
)
from slidefusion.errors import ProcessingError
from slidefusion.progress import is_terminal
from slidefusion.wording import counted

if TYPE_CHECKING:
    from slidefusion.batch.status import SlideStatus

__all__ = ["batch"]


def batch(
    manifest: Annotated[str, typer.Argument(help="CSV file with one slide a row.")],
    out_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder or URL of the outputs that have a relative path, or none; that of the "
            "manifest by default.",
        ),
    ] = None,
    fuser: Annotated[str, typer.Option(help="Fuser of the rows without one.")] = "lpp",
    at_once: Annotated[
        int | None,
        typer.Option(help="Slides in work at a time: one by default, on a cluster up to four."),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Do the other rows if some sources are missing."),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Make anew what is finished at an output's place but not by this row as it is "
            "now. Slides that are done are skipped all the same.",
        ),
    ] = False,
    client: ClientOption = None,
    retries: RetriesOption = 3,
    progress: ProgressOption = True,
) -> None:
    """Convert and fuse many slides with one table of their states.

    The manifest's first line names its columns: source (path, glob, URL; an OME-Zarr stack is fused
    as it is), and as needed out, stack (to keep the converted stack), fuser, mpp, z_step, z_um,
    reference, align, reader, chunk_px, shard_px (as for convert), planes, crop, chunks, device (as
    for fuse), any option of the fuser, and reader.NAME for one of the reader. Relative paths count
    from the manifest's folder. All rows are checked first; then a slide that fails does
    not stop the others.

    What became of each slide is kept beside it (of slides.csv in slides.status.csv). Repeat the
    command to retry what failed and continue what was interrupted; what is done is skipped. A row
    that was changed is refused if its slide is finished, unless --overwrite is given.

    \b
    Examples:
      slidefusion batch slides.csv
      slidefusion batch slides.csv --out-dir /data/fused --fuser wt --keep-going
      slidefusion batch slides.csv --client scheduler.json --at-once 8 --no-progress
    """
    import slidefusion as sf

    started = time.perf_counter()
    plain = not (progress and is_terminal(sys.stderr))
    with cluster(client) as connected:
        found = sf.batch(
            manifest,
            out_dir=out_dir,
            fuser=fuser,
            client=connected,
            at_once=at_once,
            keep_going=keep_going,
            overwrite=overwrite,
            retries=retries,
            progress=progress,
            on_slide=_print if plain else None,
        )
    _summary(manifest, found, time.perf_counter() - started)


def _print(status: SlideStatus) -> None:
    reason = f": {status.error}" if status.error else ""
    print(f"{status.state} {status.out} {status.seconds:.1f} s{reason}", flush=True)


def _summary(manifest: str, found: Sequence[SlideStatus], seconds: float) -> None:
    from pathlib import Path

    from slidefusion.batch.status import status_path

    failed = [status for status in found if status.state != "done"]
    print(f"{len(found) - len(failed)} of {counted(len(found), 'slide')} done, {seconds:.1f} s")
    for status in failed:
        print(f"line {status.line}: {status.source}: {status.error}")
    if failed:
        raise ProcessingError(
            f"{len(failed)} of {counted(len(found), 'slide')} failed (reasons above, and in "
            f"{status_path(Path(manifest))}); repeat the command to try them again"
        )
