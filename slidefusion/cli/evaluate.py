"""``slidefusion evaluate``."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slidefusion.cli.option_values import fuser_options
from slidefusion.cli.shared_options import ClientOption, cluster, numbers
from slidefusion.errors import OptionError
from slidefusion.progress import is_terminal

if TYPE_CHECKING:
    from slidefusion.evaluation import Evaluation
    from slidefusion.fuser import Fuser

__all__ = ["evaluate", "labelled_fusers"]

_WIDTH = 118  # where no terminal says how wide it is
_OUTER_COMMA = re.compile(r",(?![^\[\]]*\])")
"""One that is not in brackets, where the values of a list stand."""


def evaluate(
    stacks: Annotated[
        list[str] | None,
        typer.Argument(help="OME-Zarr stacks, each NAME.zarr with NAME-truth.zarr beside it."),
    ] = None,
    *,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the results to make.")
    ],
    fusers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Fusers to compare, with options and a label: "
            "lpp,focusgan:blur_mask=false:label=plain. By default those of the paper.",
        ),
    ] = None,
    phantoms: Annotated[
        int, typer.Option(metavar="N", help="Make and measure N held-out phantoms (1024 px).")
    ] = 0,
    first_seed: Annotated[
        int | None, typer.Option(help="Seed of the first phantom; 1000000 by default.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Keep the phantoms there, and use them again."),
    ] = None,
    truth: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE", help="Truth of each stack if not beside it; once a stack, in order."
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FUSER|FILE",
            help="For real stacks without truth: compare with the fusion of all planes by this "
            "fuser (dtcwt), or with a given image, once a stack.",
        ),
    ] = None,
    planes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OFFSETS",
            help="Focus offsets to fuse; may be repeated. 0 and -1,0,1 by default.",
        ),
    ] = None,
    step: Annotated[int, typer.Option(metavar="K", help="Planes to go for an offset of 1.")] = 1,
    patch: Annotated[int, typer.Option(metavar="PX", help="Side of a patch.")] = 512,
    min_content: Annotated[
        float,
        typer.Option(
            help="A patch whose truth varies less is glass and left out: standard deviation as a "
            "fraction of the range."
        ),
    ] = 0.02,
    pictures: Annotated[int, typer.Option(help="Patches to show side by side.")] = 3,
    client: ClientOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder of an earlier evaluation.")
    ] = False,
) -> None:
    """Measure fusers against the truth: the paper's tables and figures, in one run.

    Every slide is fused by every fuser from one plane and from three, and SSIM, CC and QMI are
    taken over patches. Writes report.html, CSV tables and PNG figures into a new folder. For real
    stacks, which have no truth, give --reference; tables and report say so.

    \b
    Examples:
      slidefusion evaluate --phantoms 30 --out results
      slidefusion evaluate --phantoms 4 --fusers lpp,wt,dtcwt -o r --planes=-1,0,1 --keep held-out
      slidefusion evaluate a.zarr b.zarr -o r --fusers focusgan,focusgan:blur_mask=false
      slidefusion evaluate real.zarr -o r --reference dtcwt --step 3
    """
    sets = None
    if planes is not None:
        sets = [numbers("--planes", text, int) or [] for text in planes]
    chosen = None if fusers is None else labelled_fusers(fusers)

    import slidefusion as sf

    options: dict[str, Any] = {} if sets is None else {"planes": sets}
    if first_seed is not None:
        options["first_seed"] = first_seed
    started = time.perf_counter()
    with cluster(client) as connected:
        found = sf.evaluate(
            stacks or [],
            chosen,
            out=out,
            phantoms=phantoms,
            keep=keep,
            truths=truth,
            reference=_reference(reference),
            step=step,
            patch_px=patch,
            min_content=min_content,
            pictures=pictures,
            overwrite=overwrite,
            client=connected,
            say=lambda line: print(line, file=sys.stderr),
            **options,
        )
    _print(found)
    print(f"{found.report}, {time.perf_counter() - started:.1f} s")


def labelled_fusers(text: str) -> dict[str, Fuser]:
    """Label: fuser, from ``NAME:option=value:label=LABEL,…``.

    A fuser without a label is called by its name and options. Raises
    :class:`~slidefusion.errors.OptionError` for what is no such list, or a label twice.

    >>> list(labelled_fusers("lpp,lpp:levels=4,wt:levels=3:label=coarse"))
    ['lpp', 'lpp levels=4', 'coarse']
    """
    from slidefusion.registry import get_fuser

    found: dict[str, Fuser] = {}
    for part in filter(None, map(str.strip, _OUTER_COMMA.split(text))):
        # Only a colon before "option=" separates: URLs and "distribution:name" have others.
        name, *given = re.split(r":(?=[A-Za-z_][\w-]*=)", part)
        label = None
        options = []
        for option in given:
            key, _, value = option.partition("=")
            if key == "label":
                label = value
            else:
                options.append(option)
        label = label or " ".join([name, *options])
        if label in found:
            raise OptionError(
                f"--fusers: two are called {label!r}; tell them apart with {name}:label=LABEL"
            )
        found[label] = get_fuser(name, **fuser_options(name, options))
    if not found:
        raise OptionError(f"--fusers {text!r}: give names separated by commas, for example lpp,wt")
    return found


def _reference(given: list[str] | None) -> Any | None:
    return given[0] if given is not None and len(given) == 1 else given


def _print(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from slidefusion.evaluation.tables import ablation_table, notes, tables

    terminal = is_terminal(sys.stdout)
    console = Console(width=None if terminal else _WIDTH, highlight=False)
    for table in tables(found):
        grid = Table(title=table.title, title_justify="left", title_style="bold")
        for k, title in enumerate(table.head):
            grid.add_column(
                title, justify="right" if k else "left", no_wrap=bool(k), overflow="fold"
            )
        for k, row in enumerate(table.rows):
            best = [table.is_best(k, column) for column in range(len(row))]
            grid.add_row(
                *(
                    Text(cell, style="bold green" if b else "")
                    for cell, b in zip(row, best, strict=True)
                )
            )
        console.print(grid)
        console.print(Text("; ".join(table.lines) + "."))
        console.print()
    last = ablation_table(found)
    if last is not None:
        grid = Table(title=last.title, title_justify="left", title_style="bold")
        for k, title in enumerate(last.head):
            grid.add_column(
                title, justify="right" if k > 1 else "left", no_wrap=k > 1, overflow="fold"
            )
        for row in last.rows:
            grid.add_row(*map(Text, row))
        console.print(grid)
        console.print()
    for line in notes(found):
        console.print(Text(line))
