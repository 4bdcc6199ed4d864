"""The cells of a CSV file whose first line names its columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from slidefusion.batch.columns import canonical
from slidefusion.errors import OptionError

__all__ = ["read_cells"]


def read_cells(manifest: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns, and of every row its line and its cells that are not empty.

    Raises
    ------
    OptionError
        It is no such file, or has no rows.
    """
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"the manifest {manifest} cannot be read as UTF-8 text: {error}"
        ) from None
    first = next(filter(str.strip, text.splitlines()), "")
    delimiter = max(",;\t", key=first.count)
    names: list[str] = []
    rows = []
    for line, cells in _lines(manifest, text, delimiter):
        if not names:
            names = [canonical(name) for name in cells]
            while not names[-1]:  # commas at the end, as spreadsheets write them
                names.pop()
            continue
        if any(cells[len(names) :]):
            raise OptionError(
                f"line {line} of {manifest} has {len(cells)} cells for {len(names)} "
                "columns: put quotes around a cell with a comma in it"
            )
        found = zip(names, cells, strict=False)
        rows.append((line, {name: cell for name, cell in found if cell}))
    if names and not rows:
        raise OptionError(f"the manifest {manifest} has no row below its first line")
    return names, rows


def _lines(manifest: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines with anything in them: the number of each, and its cells."""
    # Strict, since a quote that is never closed would otherwise take all that follows into a cell;
    # blanks between a quote that ends a cell and what parts it from the next are none of it.
    text = re.sub(rf'(?<=[^"{delimiter}]")[ \t]+(?=[{delimiter}\r\n]|$)', "", text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise OptionError(
                f"line {line} of {manifest} cannot be read: {error}; a cell that begins with a "
                "quote ends with one, and a quote inside of it is doubled"
            ) from None
        if any(cells):
            yield line, cells
