"""``slidefusion train``."""

from __future__ import annotations

import shlex
import sys
import time
from typing import Annotated, Any, Literal

import typer

from slidefusion.cli.option_values import free_value, pairs
from slidefusion.cli.shared_options import Options

__all__ = ["train"]


def train(
    method: Annotated[
        str, typer.Argument(help="blur, focusgan, fusiongan, pix2pix, srgan or cnn.")
    ],
    stacks: Annotated[
        list[str] | None,
        typer.Argument(help="OME-Zarr stacks, each NAME.zarr with NAME-truth.zarr beside it."),
    ] = None,
    *,
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="FOLDER", help="Checkpoint, curves and weights."),
    ],
    planes: Annotated[int, typer.Option(help="Planes that the network takes.")] = 1,
    preset: Annotated[
        Literal["compact", "paper"],
        typer.Option(help="compact: small networks, for a laptop. paper: as published."),
    ] = "compact",
    option: Options = None,
    truth: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="Truth of each stack if not beside it, in order."),
    ] = None,
    phantoms: Annotated[
        int, typer.Option(metavar="N", help="Make N phantoms (1024 px, 7 planes), train on them.")
    ] = 0,
    corpus: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where the phantoms go, or are; OUT/corpus otherwise."),
    ] = None,
    blur_model: Annotated[
        str,
        typer.Option(metavar="NAME|PATH|URL|none", help="Blur model whose masks guide focusgan."),
    ] = "blur",
    name: Annotated[
        str | None, typer.Option(help="Name of the weights; like focusgan-1 otherwise.")
    ] = None,
    devices: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="GPUs to train on, each with a batch of its own; of the CPU: processes.",
        ),
    ] = "1",
    accelerator: Annotated[str, typer.Option(metavar="auto|cpu|cuda")] = "auto",
    progress: Annotated[
        bool,
        typer.Option(
            "--progress/--no-progress", help="Print losses and time left on standard error."
        ),
    ] = True,
) -> None:
    """Train a network: from stacks with a truth to a file of weights.

    Stacks are phantoms, or slides whose truth is a scanner's or an all-plane fusion. A run that is
    interrupted goes on when the same command is given again, to the same result. Train the blur
    model first, then focusgan with it. -O changes a setting of the recipe
    (slidefusion.training.recipe.Recipe has them all): -O steps=20000, -O network.width=32,
    -O augmentation.stain=0.3.

    \b
    Examples:
      slidefusion train blur --phantoms 400 --corpus corpus --out runs/blur
      slidefusion train focusgan --phantoms 400 --corpus corpus --out runs/focusgan-1 \\
          --blur-model runs/blur/blur.safetensors
      slidefusion train focusgan slides/*.zarr --planes 3 --preset paper --devices auto --out runs/3
    """
    from slidefusion.errors import OptionError
    from slidefusion.training.corpus import write_corpus
    from slidefusion.training.recipe import compact, published
    from slidefusion.training.run import check_installed, check_request
    from slidefusion.training.run import train as run

    check_installed()
    if devices != "auto" and not devices.isdecimal():
        raise OptionError(f"--devices {devices!r}: give a number of GPUs, or auto")
    changes = {key: free_value(text) for key, text in pairs(option).items()}
    base = published(method, planes)
    if preset == "compact":
        steps = base.changed({k: v for k, v in changes.items() if k == "steps"}).steps
        base = compact(method, planes, **({"steps": steps} if "steps" in changes else {}))
    recipe = base.changed(changes)
    given: list[Any] = list(stacks or [])
    if phantoms < 0:
        raise OptionError(f"--phantoms {phantoms}: give a number from 0 on")
    model = None if blur_model == "none" else blur_model
    count: int | str = devices if devices == "auto" else int(devices)
    check_request(recipe, out, model, count, accelerator)  # before phantoms are made, for minutes
    if phantoms:
        say = _print_line if progress else None
        given += write_corpus(corpus or f"{out}/corpus", phantoms, say=say)
    if not given:
        raise OptionError("nothing to train on: give stacks, or --phantoms 400 to make some")
    weights = run(
        recipe,
        given,
        out,
        truths=truth,
        name=name,
        blur_model=model,
        devices=count,
        accelerator=accelerator,
        command=shlex.join(["slidefusion", *sys.argv[1:]]),
        on_step=_Lines(recipe.steps) if progress else None,
    )
    print(f"{weights}: weights, with their card beside them")


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Lines:
    """A line on standard error every so many updates."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.every = max(1, min(100, steps // 20))
        self.last: tuple[int, float] | None = None

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        now = time.perf_counter()
        if self.last is None:
            self.last = (step, now)
        elif step % self.every == 0 or step == self.steps:
            rate = (now - self.last[1]) / max(step - self.last[0], 1)
            left = rate * (self.steps - step) / 60
            values = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            _print_line(
                f"{step} of {self.steps}: {values} ({rate:.2f} s an update, {left:.0f} min left)"
            )
            self.last = (step, now)
