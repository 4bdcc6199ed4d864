"""Manifests as people and spreadsheets write them; what can be known before any work is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from slidefusion.batch.manifest import Row, read_manifest
from slidefusion.errors import OptionError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With two sources, of which only the names count."""
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    return tmp_path


def rows_of(folder: Path, text: str) -> list[Row]:
    (folder / "slides.csv").write_text(text)
    return read_manifest(folder / "slides.csv", None, "lpp")


@pytest.mark.parametrize(
    "rows",
    [
        'a.tif,"a.zarr\nb.tif,b.zarr\n',  # to the end of the file
        'a.tif,"a.zarr\nb.tif,"b.zarr"\n',  # to the next one
    ],
)
def test_a_quote_that_is_not_closed_takes_no_row_with_it(folder: Path, rows: str) -> None:
    with pytest.raises(OptionError, match=r"line 2 of .*slides\.csv cannot be read: .*quote"):
        rows_of(folder, f"source,out\n{rows}")


def test_as_spreadsheets_write_it(folder: Path) -> None:
    """Empty lines above, commas after the last column, and a line break inside of quotes."""
    text = 'source,out,,\na.tif,"x\ny.zarr",,\n,,,\nb.tif,b.zarr,,\n'
    for above in ("", "\n", ",,,\n \n"):
        rows = rows_of(folder, above + text)
        first = above.count("\n") + 2
        assert [(row.line, Path(row.out).name) for row in rows] == [
            (first, "x\ny.zarr"), (first + 3, "b.zarr"),
        ]  # fmt: skip
    with pytest.raises(OptionError, match=r"line 2 .* has 4 cells for 2 columns"):
        rows_of(folder, "source,out,,\na.tif,a.zarr,,lost\n")


@pytest.mark.parametrize(
    ("columns", "cells", "says"),
    [
        ("device", "banana", "is not allowed"),
        ("fuser,planes", "cnn,0", "takes 2 or more planes"),
        ("planes", "0 0", "none twice"),
        ("crop", "0 0 0 9", "height width"),
        ("z_um,z_step", "0 1 2,1", "z_step and z_um"),
        ("chunk_px,shard_px", "512,256", "a shard holds whole chunks"),
        ("chunk_px", "4096", "a shard holds whole chunks"),
        ("reader.out", "x.zarr", "an argument of convert itself"),
        ("reader.z_step_um", "2", "an argument of convert itself"),
    ],
)
def test_what_needs_no_slide_to_be_known(folder: Path, columns: str, cells: str, says: str) -> None:
    with pytest.raises(OptionError, match=f"line 3: .*{says}"):
        rows_of(folder, f"source,{columns}\na.tif\nb.tif,{cells}\n")
