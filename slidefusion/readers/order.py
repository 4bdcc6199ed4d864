"""The order of files that hold one plane each, from the numbers in their names.

Pure functions of strings. ``z2`` comes before ``z10``; ``-3, -2 … 2, 3`` are focus offsets, but
the dash in ``scan-1, scan-2`` is a dash; ``0.5, 1, 1.5`` are positions, but ``1.9, 1.10, 1.11`` are
two numbers with a dot between.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePath

__all__ = ["NUMBER", "gap_in", "natural_order", "one_series", "pattern", "suggested_glob"]

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
"""A number in a name."""


def pattern(path: str) -> str:
    """The path with every number replaced, what the planes of one stack share.

    >>> pattern("case/z10.png"), pattern("-3.bmp"), pattern("z2/slide.svs")
    ('case/z#.png', '#.bmp', 'z#/slide.svs')
    """
    return NUMBER.sub("#", _stem(path)) + PurePath(path).suffix.lower()


def _stem(path: str) -> str:
    return PurePath(path).with_suffix("").as_posix()


def natural_order(paths: Sequence[str]) -> list[str]:
    """``paths`` sorted by name, numbers by value.

    >>> natural_order(["z10.png", "z2.png", "z1.png"])
    ['z1.png', 'z2.png', 'z10.png']
    >>> natural_order(["0.bmp", "1.bmp", "-1.bmp", "-2.bmp"])
    ['-2.bmp', '-1.bmp', '0.bmp', '1.bmp']
    >>> natural_order(["scan-2.tif", "scan-1.tif"])
    ['scan-1.tif', 'scan-2.tif']
    >>> natural_order(["s1.10.tif", "s1.8.tif", "s1.9.tif"])
    ['s1.8.tif', 's1.9.tif', 's1.10.tif']
    """
    groups = defaultdict(list)
    for path in paths:
        groups[pattern(path)].append(path)
    ordered = []
    for key in sorted(groups):
        fields = _fields(groups[key])
        ordered += sorted(groups[key], key=lambda path: (fields[path], path))
    return ordered


def one_series(ordered: Sequence[str]) -> str | None:
    """Why ``ordered`` files do not look like the planes of one stack, or None if they do.

    They do when their names differ in numbers only, and all the numbers that differ grow
    together: ``s1_z1, s1_z2, s2_z1`` are two stacks.
    """
    groups = defaultdict(list)
    for path in ordered:
        groups[pattern(path)].append(path)
    if len(groups) > 1:
        largest = max(groups.values(), key=len)
        odd = [path for path in ordered if path not in largest]
        if len(largest) == 1:
            return f"the names have no number in common: {_some(ordered)}"
        verb = "does" if len(odd) == 1 else "do"
        return f"{_some(odd)} {verb} not fit the names of the other {len(largest)} files"
    if len(ordered) < 2:
        return None
    fields = _fields(ordered)
    for one, next_one in pairwise(ordered):
        if fields[one] == fields[next_one]:
            return f"{_some([one, next_one])} have the same numbers"
    columns = list(zip(*fields.values(), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    if any(b < a for column in varying for a, b in pairwise(column)):
        return f"more than one number varies from name to name: {_some(ordered)}"
    return None


def gap_in(ordered: Sequence[str]) -> str | None:
    """Where the numbers of one series skip some, or None.

    Whole numbers, that is, of which no more are missing than are there: positions and times rise in
    steps of their own. Nothing is missing if any number in the names rises in equal steps.

    >>> gap_in(["z1.png", "z2.png", "z4.png"])
    'z2.png is followed by z4.png'
    """
    if one_series(ordered) is not None:
        return None
    gap = None
    for column in zip(*_fields(ordered).values(), strict=True):
        steps = [b - a for a, b in pairwise(column)]
        if not any(steps):
            continue
        if max(steps) <= 1.001 * min(steps):
            return None
        least = min(steps)
        whole = all(number == int(number) for number in column) and least > 0
        if whole and all(step % least == 0 for step in steps):
            missing = sum(steps) / least - len(steps)
            if missing <= len(column):
                at = steps.index(max(steps))
                gap = " is followed by ".join(PurePath(path).name for path in ordered[at : at + 2])
    return gap


def suggested_glob(ordered: Sequence[str]) -> str:
    """A glob that takes of the largest group of files with one pattern those of one series.

    >>> suggested_glob(["s0/edf.png", "s0/z0.png", "s0/z1.png"])
    's0/z*.png'
    >>> suggested_glob(["c0_z0.tif", "c0_z1.tif", "c1_z0.tif", "c1_z1.tif"])
    'c0_z*.tif'
    """
    patterns = [pattern(path) for path in ordered]
    most = max(patterns, key=patterns.count)
    alike = [PurePath(path) for path, its in zip(ordered, patterns, strict=True) if its == most]
    numbers = zip(*(NUMBER.findall(path.stem) for path in alike), strict=True)
    varying = [k for k, column in enumerate(numbers) if len(set(column)) > 1]
    stem = alike[0].stem
    for k, number in enumerate(NUMBER.finditer(stem)):
        if k == (varying or [0])[-1]:
            stem = f"{stem[: number.start()]}*{stem[number.end() :]}"
            break
    return str(alike[0].with_name(stem + alike[0].suffix))


def _fields(paths: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """The numbers in each name. All ``paths`` share one pattern.

    Whole numbers are as long as they are: timestamps have more digits than a float.
    """
    found = {path: list(NUMBER.finditer(_stem(path))) for path in paths}
    count = len(next(iter(found.values())))
    signed = []
    for k in range(count):
        minus = [matches[k].group()[0] == "-" for matches in found.values()]
        at_start = all(
            _stem(path)[: matches[k].start()].endswith("/") or matches[k].start() == 0
            for path, matches in found.items()
        )
        after_mark = all(
            _stem(path)[matches[k].start() - 1 : matches[k].start()] in ("_", "=", "(")
            for path, matches in found.items()
        )
        signed.append(at_start or after_mark or (any(minus) and not all(minus)))
    dotted = [
        _are_dotted([m[k].group().lstrip("+-") for m in found.values()]) for k in range(count)
    ]
    return {
        path: tuple(
            number
            for m, sign, two in zip(matches, signed, dotted, strict=True)
            for number in _numbers(m.group(), sign, two)
        )
        for path, matches in found.items()
    }


def _are_dotted(texts: Sequence[str]) -> bool:
    """Whether ``1.9, 1.10`` are whole numbers with a dot between, and not decimals.

    They are when a number occurs twice as decimals (1.1 and 1.10), and when what stands behind each
    number before the dot counts on (8, 9, 10). Whole numbers of several lengths begin with no zero.
    """
    behind: dict[str, list[str]] = defaultdict(list)
    for text in dict.fromkeys(texts):
        before, _, rest = text.partition(".")
        behind[before].append(rest)
    parts = [rest for rests in behind.values() for rest in rests]
    mixed = len({len(rest) for rest in parts}) > 1
    if not all(parts) or not mixed or any(rest[0] == "0" and len(rest) > 1 for rest in parts):
        return False
    counted = [sorted(map(int, rests)) for rests in behind.values()]
    count_on = all(len(n) > 1 and n[-1] - n[0] == len(n) - 1 for n in counted)
    return count_on or len({float(text) for text in texts}) < len(parts)


def _numbers(text: str, signed: bool, dotted: bool) -> tuple[float, ...]:
    text = text if signed else text.lstrip("+-")
    if dotted:
        before, _, behind = text.partition(".")
        return int(before), int(behind)
    return (float(text) if "." in text else int(text),)


def _some(paths: Sequence[str]) -> str:
    names = [PurePath(path).name for path in paths]
    return ", ".join(names[:4]) + (f" … ({len(names)} in all)" if len(names) > 4 else "")
