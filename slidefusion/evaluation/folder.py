"""The output folder: filled out of sight, and put in its place when everything is there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slidefusion.errors import OutputError
from slidefusion.files import CANNOT_WRITE
from slidefusion.omezarr.overlap import refuse_overlap

__all__ = ["check", "refuse_inputs_inside", "staged"]

_MARKER = "evaluation.json"


@contextlib.contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside ``out`` that takes its place at the end, or is removed.

    Raises :class:`OutputError` when ``out`` exists and ``overwrite`` is false, when it is no
    folder that an evaluation made, or when nothing can be written there.
    """
    out = out.expanduser().absolute()
    check(out, overwrite=overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        folder.chmod(0o755)
    except OSError as error:
        raise OutputError(
            f"cannot write into {out.parent}: {error}; choose a place that can be written to"
        ) from error
    try:
        yield folder
        check(out, overwrite=overwrite)  # somebody may have made it meanwhile
        if out.is_dir():
            shutil.rmtree(out)
        folder.rename(out)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise OutputError(
            f"the evaluation cannot be written into {out.parent} ({error}), and nothing of it is "
            "kept: make room, or choose another place, and run it again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(out: Path, *, overwrite: bool) -> None:
    """Raise :class:`OutputError` when ``out`` may not be written."""
    if out.is_symlink():
        raise OutputError(f"{out} is a link; name the folder itself, or choose another one")
    if not out.exists():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    if not overwrite:
        raise OutputError(
            f"{out} exists; choose another folder, or pass overwrite=True (--overwrite) to replace "
            "what an earlier evaluation left there"
        )
    if not (out / _MARKER).is_file():
        raise OutputError(
            f"{out} was not made by an evaluation (it holds no {_MARKER}), and is not deleted; "
            "choose another folder"
        )


def refuse_inputs_inside(folder: Path, inputs: Sequence[Any]) -> None:
    """An evaluation replaces its whole folder, with whatever lies in it."""
    refuse_overlap(str(folder), [place for place in inputs if isinstance(place, (str, Path))])
