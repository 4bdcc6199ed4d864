"""What readers of one file a plane share: every plane must be like the first."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import PurePath

from slidefusion.errors import StackError

__all__ = ["all_alike"]


def all_alike(what: str, files: Sequence[str], values: Sequence[Hashable]) -> None:
    """Refuse planes that differ in ``what``, naming files and values.

    Raises:
        StackError: they differ.
    """
    if len(set(values)) <= 1:
        return
    common = max(values, key=values.count)
    odd = [
        f"{PurePath(file).name}: {value}"
        for file, value in zip(files, values, strict=True)
        if value != common
    ]
    like = PurePath(files[values.index(common)]).name
    raise StackError(
        f"the planes differ in {what}: {like}: {common}, but {'; '.join(odd[:4])}"
        f"{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}. All planes of a stack have the "
        f"same {what}: register and crop them first, or leave the odd ones out"
    )
