"""``slidefusion phantom``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from slidefusion.cli.option_values import pairs, typed_value
from slidefusion.cli.shared_options import (
    ClientOption,
    Options,
    Overwrite,
    ProgressOption,
    ReportOption,
    RetriesOption,
    VerifyOption,
    cluster,
)
from slidefusion.wording import counted

__all__ = ["phantom"]


def phantom(
    out: Annotated[
        str, typer.Argument(help="OME-Zarr stack to write; truth and depth go beside it.")
    ],
    size: Annotated[
        tuple[int, int], typer.Option(metavar="H W", help="Height and width in pixels.")
    ] = (3072, 3072),
    planes: Annotated[int, typer.Option(help="Number of focal planes.")] = 11,
    z_step_um: Annotated[
        float | None, typer.Option(help="Distance between planes in µm; 2.7 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the specimen.")] = 0,
    option: Options = None,
    client: ClientOption = None,
    overwrite: Overwrite = False,
    verify: VerifyOption = False,
    retries: RetriesOption = 3,
    report: ReportOption = None,
    progress: ProgressOption = True,
) -> None:
    """Make a synthetic smear with its exact truth and depth.

    Writes the focus stack OUT, and beside it …-truth.zarr and …-depth.zarr (µm, NaN on clear
    glass). A pixel depends only on settings, seed and position; any size is made region by region.
    -O sets what the slide looks like (-O na=0.4, -O density=2; slidefusion.phantom.PhantomSettings
    has them all).

    \b
    Examples:
      slidefusion phantom phantom.zarr
      slidefusion phantom big.zarr --size 50000 80000 --planes 11 --z-step-um 2.7 --seed 7
      slidefusion phantom gray.zarr --size 2048 2048 -O gray=true -O na=0.4
    """
    from slidefusion.errors import OptionError, near_match
    from slidefusion.phantom import Phantom, PhantomSettings
    from slidefusion.verbs.phantom import write_phantom

    defaults = PhantomSettings().to_dict()
    texts = pairs(option)
    for name in texts:
        if name not in defaults:
            raise OptionError(
                f"the phantom has no setting {name!r}{near_match(name, defaults)} "
                f"(settings: {', '.join(defaults)})"
            )
    if z_step_um is not None and "z_step_um" in texts:
        raise OptionError("--z-step-um and -O z_step_um are the same: give one of them")
    settings = PhantomSettings.from_dict(
        {
            name: typed_value("the phantom", name, text, type(defaults[name]).__name__)
            for name, text in texts.items()
        }
    )
    height, width = size
    slide = Phantom(height, width, planes=planes, z_step_um=z_step_um, seed=seed, settings=settings)
    started = time.perf_counter()
    with cluster(client) as connected:
        paths = write_phantom(
            slide,
            out,
            overwrite=overwrite,
            client=connected,
            progress=progress,
            verify=verify,
            retries=retries,
            report=report,
        )
    seconds = time.perf_counter() - started
    print(f"{paths.stack}: {counted(planes, 'plane')} of {height} x {width} px, {seconds:.1f} s")
    print(f"{paths.truth}: the same in focus everywhere")
    print(f"{paths.depth}: depth in µm")
