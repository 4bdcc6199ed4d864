"""The columns that a manifest may have, and how their cells become values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slidefusion.errors import OptionError, near_match
from slidefusion.option_text import free_value, refuse_arguments, typed_value
from slidefusion.verbs.convert import convert

__all__ = ["CONVERT", "FUSE", "PLACES", "canonical", "check_columns", "fuser_values", "value"]

PLACES = ("source", "out", "stack", "fuser")
"""Columns that say what and where."""
_READER = "reader."
"""Begins the name of a column with an option of the reader, such as ``reader.series``."""
_DECIMAL_COMMA = re.compile(r"\d+,\d+")
"""May be one number as some write it, or two: nobody knows."""
_SYNONYMS = {"pixel_size_um": "mpp", "z_step_um": "z_step"}


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.replace(",", " ").split()]


def _positive(text: str, kind: Callable[[str], Any] = float) -> Any:
    value = kind(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _size(text: str) -> float | tuple[float, float]:
    if _DECIMAL_COMMA.fullmatch(text):
        raise ValueError(text)
    sizes = [_positive(part) for part in text.replace(",", " ").split()]
    if len(sizes) == 1:
        return float(sizes[0])
    y, x = sizes
    return y, x


def _pixels(text: str) -> int:
    return int(_positive(text, int))


def _index(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _ints(text: str) -> list[int]:
    return [int(part) for part in text.replace(",", " ").split()]


def _offsets(text: str) -> list[int]:
    offsets = _ints(text)
    if not offsets or len(set(offsets)) < len(offsets):
        raise ValueError(text)
    return offsets


def _rectangle(text: str) -> tuple[int, int, int, int]:
    y, x, height, width = _ints(text)
    if min(y, x) < 0 or min(height, width) < 1:
        raise ValueError(text)
    return y, x, height, width


def _yes_or_no(text: str) -> bool:
    return {"yes": True, "true": True, "no": False, "false": False}[text.lower()]


def _side(text: str) -> int | str:
    return text if text == "auto" else _pixels(text)


# Column: the argument of the verb, how its text is read, and what it has to be.
_Column = tuple[str, Callable[[str], Any], str]
CONVERT: dict[str, _Column] = {
    "mpp": ("pixel_size_um", _size, "µm a pixel, positive, such as '0.25', or 'y x'"),
    "z_step": ("z_step_um", _positive, "a positive distance in µm, such as '1.5'"),
    "z_um": ("z_um", _floats, "positions in µm, such as '-2 0 3'"),
    "reference": ("reference", _index, "the index of a plane"),
    "align": ("align", _yes_or_no, "yes or no"),
    "reader": ("reader", str, "the name of a reader"),
    "chunk_px": ("chunk_px", _pixels, "a number of pixels"),
    "shard_px": ("shard_px", _pixels, "a number of pixels"),
}
"""Columns for ``convert``."""
FUSE: dict[str, _Column] = {
    "planes": ("planes", _offsets, "focus offsets, none twice, such as '-1 0 1'"),
    "crop": ("crop", _rectangle, "'y x height width' in pixels"),
    "chunks": ("chunks", _side, "the side of a region in pixels, or auto"),
    "device": ("device", str, "the name of a device"),
}
"""Columns for ``fuse``."""


def canonical(name: str) -> str:
    """A column's name as it is used here; dashes count as underscores.

    >>> canonical(" Pixel-Size-um "), canonical("planes")
    ('mpp', 'planes')
    """
    plain = name.strip().lower().replace("-", "_")
    return _SYNONYMS.get(plain, plain)


def check_columns(names: Iterable[str], options: Iterable[str]) -> None:
    """Refuse a column that no row could use, naming a near match.

    ``options`` are those of the rows' fusers.

    Raises
    ------
    OptionError
        For an unknown or repeated column, or when there is no ``source``.
    """
    found = list(names)
    known = list(dict.fromkeys([*PLACES, *CONVERT, *FUSE, *options]))
    if "source" not in found:
        raise OptionError(
            f"the manifest has no column 'source' (its first line: {', '.join(found) or 'empty'}); "
            "its first line names the columns, of which source is needed"
        )
    for name in found:
        if found.count(name) > 1:
            raise OptionError(f"the manifest has the column {name!r} twice; give it once")
        if name not in known and not name.startswith(_READER):
            raise OptionError(
                f"the manifest has an unknown column {name!r}{near_match(name, known)} (columns: "
                f"{', '.join(known)}, and {_READER}NAME for an option of the reader)"
            )


def value(columns: dict[str, _Column], name: str, text: str) -> tuple[str, Any]:
    """A cell as argument and value of the verb.

    Raises :class:`OptionError` when the text is none.

    >>> value(FUSE, "planes", "-1, 0, 1")
    ('planes', [-1, 0, 1])
    """
    argument, parse, wanted = columns[name]
    try:
        return argument, parse(text)
    except (KeyError, TypeError, ValueError):
        raise OptionError(f"{name}={text!r}: give {wanted}") from None


def fuser_values(
    fuser: str, types: Mapping[str, str], cells: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The other cells as options of the fuser, whose ``types`` these are, and of the reader.

    Raises :class:`OptionError` for one that this fuser has not, or of another type, and for one of
    the reader that ``convert`` would take for its own.
    """
    options, reader = {}, {}
    for name, text in cells.items():
        if name.startswith(_READER):
            option = name.removeprefix(_READER)
            refuse_arguments(convert, [option], "reader", _READER)
            reader[option] = free_value(text)
        elif name in types:
            options[name] = typed_value(f"fuser {fuser!r}", name, text, types[name])
        else:
            raise OptionError(
                f"{name}={text!r}: fuser {fuser!r} has no such option; leave the cell empty "
                f"(its options: {', '.join(types) or 'none'})"
            )
    return options, reader
