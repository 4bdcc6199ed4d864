"""The commands, in the order in which a slide meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from slidefusion.cli.batch import batch
from slidefusion.cli.convert import convert
from slidefusion.cli.demo import demo
from slidefusion.cli.evaluate import evaluate
from slidefusion.cli.fuse import fuse
from slidefusion.cli.fusers import fusers
from slidefusion.cli.info import info
from slidefusion.cli.log import start_log
from slidefusion.cli.phantom import phantom
from slidefusion.cli.plan import plan
from slidefusion.cli.train import train
from slidefusion.cli.verify import verify

__all__ = ["app"]

app = typer.Typer(
    name="slidefusion",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"slidefusion {version('slidefusion')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, not its line alone.")
    ] = False,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="LEVEL",
            help="Log to standard error: warning (retries), info, or debug (one line a region).",
        ),
    ] = None,
) -> None:
    """A focus stack of a whole slide in, one all-in-focus OME-Zarr slide out.

    \b
    Examples:
      slidefusion demo
      slidefusion convert slide.ndpi stack.zarr
      slidefusion fuse stack.zarr lpp --out slide.zarr
      slidefusion info slide.zarr

    Exit codes: 0 done, 1 failed midway (run the same command again to continue), 2 cannot be done
    as asked, 130 interrupted.
    """
    if log is not None:
        start_log(log)


app.command()(convert)
app.command()(plan)
app.command()(fuse)
app.command()(batch)
app.command()(fusers)
app.command()(info)
app.command()(verify)
app.command()(phantom)
app.command()(demo)
app.command()(train)
app.command()(evaluate)
