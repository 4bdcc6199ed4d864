"""A manifest, a CSV file with one slide a row: read, and checked as a whole before any work."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slidefusion.batch.cells import read_cells
from slidefusion.batch.columns import CONVERT, FUSE, PLACES, check_columns, fuser_values, value
from slidefusion.batch.stamps import is_zarr_source, stamps
from slidefusion.errors import OptionError, SlidefusionError
from slidefusion.fuser import Fuser
from slidefusion.omezarr.overlap import one_name
from slidefusion.omezarr.store import is_url, location
from slidefusion.plan import chosen_fuser
from slidefusion.registry import FUSERS, READERS, find, fuser_options
from slidefusion.verbs.convert import chunk_and_shard
from slidefusion.wording import counted

__all__ = ["Row", "is_temporary", "read_manifest"]

_SHOWN = 20
_TEMPORARY = ".batch-stack.zarr"
"""Ends the name of a stack that is deleted when its slide is done. Before it stands what tells the
manifests apart: two that would write one slide must not take each other's stacks for their own."""


@dataclass(frozen=True)
class Row:
    """One slide: what to make of what, and where."""

    line: int
    """In the manifest, the first being 1."""
    source: str
    """Absolute path or glob, or URL."""
    out: str
    """The fused slide: absolute path or URL."""
    stack: str | None
    """The converted stack; None when the source is fused as it is."""
    fuser: str
    convert: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``convert``."""
    fuse: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``fuse``, the fuser's options included."""
    missing: bool = False
    """Whether nothing is at the source."""

    @property
    def keeps_stack(self) -> bool:
        """Whether there is a stack that stays."""
        return self.stack is not None and not is_temporary(self.stack)

    @property
    def places(self) -> list[str]:
        """What is written."""
        return [self.out] if self.stack is None else [self.stack, self.out]

    def digest(self) -> str:
        """Of all that the output depends on: the settings, and what the source is like.

        Raises what :func:`stamps` raises.
        """
        return f"{self.settings_digest}-{_digest(stamps(self.source))}"

    @functools.cached_property
    def settings_digest(self) -> str:
        """The part of the digest that does not need the source."""
        stack = one_name(self.stack) if self.stack and self.keeps_stack else None
        return _digest([one_name(self.source), stack, self.fuser, self.convert, self.fuse])


def is_temporary(stack: str | None) -> bool:
    """Whether a stack is deleted when its slide is done."""
    return bool(stack) and str(stack).endswith(_TEMPORARY)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(
    manifest: Path,
    out_dir: str | os.PathLike[str] | None,
    fuser: str,
    excused: Callable[[Row], bool] = lambda row: False,
) -> list[Row]:
    """Read and check all rows.

    Relative paths count from the folder of the manifest, those of ``out`` and ``stack`` from
    ``out_dir`` if it is given. A row whose source is missing, or whose fuser cannot be had here, is
    refused unless ``excused`` says that it does not matter.

    Raises
    ------
    OptionError
        Listing the rows that cannot be done, and why.
    """
    names, lines = read_cells(manifest)
    for _, cells in lines:
        cells.setdefault("fuser", fuser)
    named = sorted({cells["fuser"] for _, cells in lines})
    fusers = {name: _option_types(name) for name in named if _is_fuser(name)}
    check_columns(names, (option for types in fusers.values() for option in types))
    home = Path(_plain(manifest))
    places = str(home.parent) if out_dir is None else location(out_dir)
    owner = _digest(str(home))[:8]
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    checked: dict[str, Fuser | None] = {}
    for line, cells in lines:
        try:
            row, check = _row(line, dict(cells), fusers, home.parent, places, owner, checked)
            for place in (row.source, *row.places):
                one_name(place)
        except (SlidefusionError, OSError, RuntimeError, ValueError) as error:
            problems.append((line, str(error)))  # of a name that no file can have, too
            continue
        rows.append(row)
        try:
            if row.missing:
                raise OptionError(f"there is nothing at the source {row.source}")
            check()
        except SlidefusionError as error:
            if not excused(row):
                problems.append((line, str(error)))
    problems += _conflicts(rows)
    if problems:
        problems.sort()
        listed = "; ".join(f"line {line}: {reason}" for line, reason in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise OptionError(
            f"{counted(len(problems), 'problem')} in {manifest}, nothing was "
            f"started: {listed}{more}"
        )
    return rows


def _is_fuser(name: str) -> bool:
    try:
        find(FUSERS, name)
    except SlidefusionError:
        return False
    return True


def _option_types(fuser: str) -> dict[str, str]:
    return {info.name: info.type for info in fuser_options(fuser)}


def _row(
    line: int,
    cells: dict[str, str],
    fusers: dict[str, dict[str, str]],
    folder: Path,
    places: str,
    owner: str,
    checked: dict[str, Fuser | None],
) -> tuple[Row, Callable[[], None]]:
    """A row, and what raises if it cannot be done with what there is here and now."""
    place = {name: cells.pop(name, "") for name in PLACES}
    if not place["source"]:
        raise OptionError("the cell source is empty")
    fuser = place["fuser"]
    if fuser not in fusers:
        find(FUSERS, fuser)  # says why
    convert = dict(value(CONVERT, name, cells.pop(name)) for name in CONVERT if name in cells)
    fuse = dict(value(FUSE, name, cells.pop(name)) for name in FUSE if name in cells)
    options, reader = fuser_values(fuser, fusers[fuser], cells)

    def check() -> None:
        _check_convert(convert, checked)
        _check_fuse(fuser, fuse, options, checked)

    source, missing, stem = _source(place["source"], folder)
    out = _under(places, place["out"] or f"{stem}-fused.zarr")
    stack: str | None = _under(places, place["stack"]) if place["stack"] else None
    if is_temporary(stack):
        raise OptionError(f"stack={stack!r}: the name of a stack that stays ends otherwise")
    if stack is None and (convert or reader or not is_zarr_source(source)):
        stack = f"{out.removesuffix('.zarr')}.{owner}{_TEMPORARY}"
    row = Row(line, source, out, stack, fuser, convert | reader, fuse | options, missing)
    return row, check


def _check_convert(convert: dict[str, Any], checked: dict[str, Fuser | None]) -> None:
    """What can be said of these arguments without the source."""
    reader = convert.get("reader")
    if reader is not None and reader not in checked:
        find(READERS, reader)
        checked[reader] = None
    if "z_step_um" in convert and "z_um" in convert:
        raise OptionError("z_step and z_um both say where the planes are: give one of them")
    sides = ("chunk_px", "shard_px")
    chunk_and_shard(**{name: convert[name] for name in sides if name in convert})


def _check_fuse(
    name: str, fuse: dict[str, Any], options: dict[str, Any], checked: dict[str, Fuser | None]
) -> None:
    """What can be said of these arguments without the stack."""
    device = fuse.get("device", "auto")
    question = repr((name, device, sorted(options.items())))
    fuser = checked.get(question)  # thousands of rows ask for the same
    if fuser is None:
        fuser = checked[question] = chosen_fuser(name, device, options)
    planes = fuse.get("planes")
    if planes is not None and len(planes) not in fuser.planes:
        raise OptionError(f"planes={planes}: fuser {name!r} takes {fuser.planes} planes")


def _source(text: str, folder: Path) -> tuple[str, bool, str]:
    """Where a source is, whether it is missing, and a name for what is made of it."""
    if is_url(text):
        return text, False, _stem(text.rstrip("/").rpartition("/")[2].partition("?")[0])
    if text.startswith("file://"):
        text = location(text)
    path = Path(_plain(Path(folder, Path(text).expanduser())))
    if path.exists():
        plain = path.is_dir() and path.suffix != ".zarr"
        return str(path), False, path.name if plain else _stem(path.name)
    if not glob.has_magic(text):
        return str(path), True, _stem(path.name)
    # The folder of the manifest is no pattern, whatever characters its name has.
    pattern = text if Path(text).is_absolute() else str(Path(glob.escape(str(folder)), text))
    missing = next(glob.iglob(pattern), None) is None  # noqa: PTH207 (an absolute pattern)
    fixed = Path(text)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return pattern, missing, fixed.name or folder.name


def _stem(name: str) -> str:
    """A name without what says its format.

    >>> _stem("a.ome.tif"), _stem("b.v2.svs"), _stem("c.ome.zarr")
    ('a', 'b.v2', 'c')
    """
    return Path(name).stem.removesuffix(".ome")


def _under(folder: str, text: str) -> str:
    """A path or URL; a relative one is below ``folder``."""
    if is_url(text) or Path(text).expanduser().is_absolute():
        return _plain(location(text))
    return f"{folder}/{text}" if is_url(folder) else _plain(location(Path(folder, text)))


def _plain(place: str | Path) -> str:
    """A path whose folder has one spelling, wherever a manifest is read from; a URL as it is."""
    if is_url(str(place)):
        return str(place)
    path = Path(place)
    if path.name == "..":
        return os.path.realpath(path)
    return str(Path(os.path.realpath(path.parent), path.name))  # a link keeps the name it was given


def _conflicts(rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """Rows that would write into each other's outputs, or into a source."""
    seen: dict[str, int] = {}
    for row in rows:
        for place in map(one_name, row.places):
            if place in seen:
                same = "itself" if seen[place] == row.line else f"line {seen[place]}"
                yield row.line, f"it writes {place}, as does {same}; give each an out of its own"
            seen.setdefault(place, row.line)
    sources = {one_name(row.source): row.line for row in rows}
    above_source = {str(parent): line for path, line in sources.items() for parent in _above(path)}
    zarr_sources = {path: line for path, line in sources.items() if is_zarr_source(path)}
    for row in rows:
        for place in map(one_name, row.places):
            for others, what in ((sources, "is"), (above_source, "contains")):
                if place in others:
                    yield row.line, f"its output {place} {what} the source of line {others[place]}"
            for others, what in ((seen, "output"), (zarr_sources, "source")):
                for parent in _above(place):
                    if parent in others:
                        yield (
                            row.line,
                            f"its output {place} lies inside {parent}, the {what} of line "
                            f"{others[parent]}",
                        )


def _above(place: str) -> list[str]:
    """The folders that a path or URL lies in."""
    if not is_url(place):
        return [str(parent) for parent in Path(place).parents]
    scheme, _, rest = place.partition("://")
    parts = rest.split("/")
    return [f"{scheme}://{'/'.join(parts[:count])}" for count in range(1, len(parts))]
