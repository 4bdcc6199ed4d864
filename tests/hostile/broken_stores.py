"""Ways to break a Zarr store, drawn by hypothesis and applied to a sound one."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from .seeds import STORES

Change = tuple[Any, ...]

HUGE = 10**12
ELSEWHERE = (
    "../../secret.zarr/0",
    "../secret.zarr/0",
    "/etc",
    "file:///etc",
    "..",
    ".",
    "",
    "0/..",
)
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e308, -0.5, math.nan, math.inf, "", "x", "NaN", "../..", HUGE, 2**63),
    *([], {}, [[]], [None], {"a": {}}, [1, 2], ["z"], "é\u0000", [0, 0, 0, 0], [HUGE] * 4),
)

_AXES = [{"name": n, "type": "space"} for n in "czyx"]
_SCALES: tuple[Any, ...] = (
    *(
        [1, math.nan, 1, 1],
        [1, 1, math.inf, 1],
        [0, 0, 0, 0],
        [1, -1, -1, -1],
        [1, 1],
        "1111",
        None,
    ),
    *([1, 0.0, 0.25, 0.25], [1, 1e-320, 1e-320, 1e-320], [1, 1e308, 1e308, 1e308], [[1]] * 4),
)
_DTYPES = (
    "float64",
    "complex128",
    "bool",
    "int64",
    "float16",
    "string",
    "r24",
    "raw",
    "uint7",
    "<U8",
)
_CODECS: tuple[Any, ...] = (
    [],
    [{"name": "bytes"}],
    [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 99}}],
    [{"name": "bytes"}, {"name": "rot13"}],
    [{"name": "transpose", "configuration": {"order": [3, 2, 1, 0]}}, {"name": "bytes"}],
    [{"name": "bytes"}, {"name": "crc32c"}] * 3,
    [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1, 7, 7]}}],
    [{"name": "vlen-utf8"}],
    [{"name": "bytes"}, {"name": "blosc", "configuration": {"cname": "x", "typesize": 0}}],
    [{"name": "numcodecs.pickle"}],
)


def _setting(file: str, keys: tuple[Any, ...], values: Any) -> st.SearchStrategy[Change]:
    return st.tuples(st.just("set"), st.just(file), st.just(keys), st.sampled_from(values))


_IMAGE = ("attributes", "ome", "multiscales", 0)
_OURS = ("attributes", "slidefusion")

_of_version_3 = st.one_of(
    _setting("0/zarr.json", ("shape", 3), (HUGE, 2**31, 2**63, 2**64, -1, 0, 1.5, "9", math.nan)),
    _setting("0/zarr.json", ("shape", 1), (HUGE, 0, 70000)),
    _setting("0/zarr.json", ("shape", 0), (HUGE, 0, 70000)),
    _setting("0/zarr.json", ("shape",), ([HUGE] * 4, [], [80, 100], [3] * 40, [1, 3, HUGE, HUGE])),
    _setting("1/zarr.json", ("shape",), ([HUGE] * 4, [], [40, 50], [1, 3, 40, 51])),
    _setting(
        "0/zarr.json",
        ("chunk_grid", "configuration", "chunk_shape"),
        (
            [1, 1, 10**9, 10**9],
            [1, 1, 0, 64],
            [1, 1, -64, 64],
            [1, 3, 64],
            [HUGE] * 4,
            [1, 1, 1, 1],
        ),
    ),
    _setting(
        "0/zarr.json",
        ("codecs", 0, "configuration", "chunk_shape"),
        ([1, 1, 10**9, 10**9], [1, 1, 0, 32], [1, 1, 33, 32], [1, 1, 1, 1], [32, 32]),
    ),
    _setting("0/zarr.json", ("codecs",), _CODECS),
    _setting("0/zarr.json", ("codecs", 0, "configuration", "codecs"), _CODECS),
    _setting("0/zarr.json", ("codecs", 0, "configuration", "index_codecs"), _CODECS),
    _setting("0/zarr.json", ("data_type",), _DTYPES),
    _setting("0/zarr.json", ("fill_value",), (math.nan, "NaN", 300, -1, [0], "0x00", None, 1e300)),
    _setting("0/zarr.json", ("dimension_names",), (["x"] * 4, ["a"], None, ["z", "c", "y", "x"])),
    _setting("0/zarr.json", ("node_type",), ("group", "thing", None)),
    _setting("0/zarr.json", ("zarr_format",), (2, 4, "3", None)),
    _setting("zarr.json", ("node_type",), ("array", "thing", None)),
    _setting("zarr.json", ("zarr_format",), (2, 4, "3", None)),
    _setting("zarr.json", (*_IMAGE, "datasets", 0, "path"), ELSEWHERE),
    _setting("zarr.json", (*_IMAGE, "datasets", 1, "path"), (*ELSEWHERE, "0", "labels", "7")),
    _setting("zarr.json", (*_IMAGE, "datasets"), ([], [{"path": "0"}] * 10**5, {}, "0", [[]])),
    _setting(
        "zarr.json",
        (*_IMAGE, "datasets", 0, "coordinateTransformations", 0, "scale"),
        _SCALES,
    ),
    _setting("zarr.json", (*_IMAGE, "coordinateTransformations"), ([{"type": "scale"}], [[]], "x")),
    _setting(
        "zarr.json", (*_IMAGE, "axes"), (_AXES[::-1], _AXES[:2], _AXES * 9, "zyx", "yx", [None])
    ),
    _setting(
        "zarr.json", ("attributes", "ome", "multiscales"), ([], [[]], [{}] * 10**5, {"0": {}})
    ),
    _setting(
        "zarr.json", ("attributes", "ome", "omero"), ({"channels": [None]}, [], {"channels": 3})
    ),
    _setting("zarr.json", ("attributes", "ome", "omero", "channels"), ([{"label": [1]}], [{}] * 9)),
    _setting("zarr.json", (*_OURS, "z_um"), ([0, 1], [1, 1, 1], [2, 1, 0], "abc", {}, [None] * 3)),
    _setting("zarr.json", (*_OURS, "z_um"), ([math.nan] * 3, [0, 1e308, math.inf], 3, [HUGE] * 3)),
    _setting(
        "zarr.json", (*_OURS, "reference"), (-1, HUGE, "x", None, 1.5, math.nan, [1], 10**400)
    ),
    _setting("zarr.json", (*_OURS, "complete"), (False, None, "no", 0, [])),
    _setting("zarr.json", (*_OURS, "kind"), (None, 3, ["stack"], {})),
    _setting("zarr.json", _OURS, (None, [], "x", 3, {"complete": False})),
)

_of_labels = st.one_of(
    _setting(
        "labels/zarr.json", ("attributes", "ome", "labels"), (["../.."], ["/etc"], ["."], [3], 7)
    ),
    _setting(
        "labels/zarr.json", ("attributes", "ome", "labels"), (["depth"] * 999, ["no"], [None])
    ),
    _setting(
        "labels/depth/zarr.json",
        ("attributes", "ome", "multiscales", 0, "datasets", 0, "path"),
        ("../../0", *ELSEWHERE),
    ),
)

_of_version_2 = st.one_of(
    _setting(".zattrs", ("multiscales", 0, "axes"), (_AXES[::-1], [], None, ["t", "c", "y", "x"])),
    _setting(".zattrs", ("multiscales", 0, "datasets", 0, "path"), ELSEWHERE),
    _setting(
        "0/.zarray", ("shape",), ([1, 1, 3, HUGE, HUGE], [0] * 5, [5, 1, 3, 40, 50], [40, 50])
    ),
    _setting("0/.zarray", ("chunks",), ([1, 1, 1, 10**9, 10**9], [0] * 5, [1], [1, 1, 3, 40, 50])),
    _setting(
        "0/.zarray", ("dtype",), ("<f8", "|O", "<U9", "|V8", "<M8[ns]", ">u2", [["a", "<u2"]], 7)
    ),
    _setting("0/.zarray", ("compressor",), ({"id": "pickle"}, {"id": "no"}, {}, None, "zlib", [])),
    _setting("0/.zarray", ("filters",), ([{"id": "delta"}], [{"id": "x"}], {}, "x")),
    _setting("0/.zarray", ("fill_value",), ("NaN", None, -1, 10**9, "x", [])),
    _setting("0/.zarray", ("dimension_separator",), ("/", "", "..", None, 3)),
)

_of_any = st.one_of(
    st.tuples(st.just("junk"), st.integers(0, 10**6), st.sampled_from(JUNK)),
    st.tuples(st.just("drop"), st.integers(0, 10**6)),
    st.tuples(st.just("truncate"), st.integers(0, 10**6), st.floats(0, 0.999)),
    st.tuples(st.just("flip"), st.integers(0, 10**6), st.floats(0, 0.999), st.integers(1, 255)),
    st.tuples(
        st.just("text"), st.integers(0, 10**6), st.sampled_from(("", "[]", "{", "[" * 10**5))
    ),
    st.tuples(st.just("text"), st.integers(0, 10**6), st.binary(max_size=40).map(repr)),
    st.tuples(st.just("delete"), st.integers(0, 10**6)),
    st.tuples(st.just("folder"), st.integers(0, 10**6)),
    st.tuples(st.just("link"), st.integers(0, 10**6), st.sampled_from(("self", "secret", "up"))),
    st.tuples(st.just("cycle"), st.sampled_from(("0/c/loop", "loop", "labels/loop", "2"))),
)

_FITTING = {  # changes that only some of the stores have a place for
    "stack": _of_version_3,
    "slide": _of_version_3 | _of_labels,
    "ngff04": _of_version_2,
}


def _changes(seed: str) -> st.SearchStrategy[tuple[str, list[Change]]]:
    changes = st.lists(_FITTING[seed] | _of_any, min_size=1, max_size=2)
    return st.tuples(st.just(seed), changes)


broken_stores = st.sampled_from(STORES).flatmap(_changes)


def break_store(root: Path, changes: list[Change]) -> None:
    """Apply ``changes`` to the store at ``root``; those that do not fit it do nothing."""
    for change in changes:
        _apply(root, *change)


def _apply(root: Path, what: str, *arguments: Any) -> None:
    if what == "set":
        name, keys, value = arguments
        if (root / name).is_file():
            _edit(root / name, keys, value)
        return
    if what == "cycle":
        place = root / arguments[0]
        if place.parent.is_dir() and not os.path.lexists(place):
            place.symlink_to(root, target_is_directory=True)
        return
    number, *more = arguments
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    if what in ("junk", "drop"):
        files = [path for path in files if path.name.endswith(("json", ".zarray", ".zattrs"))]
    if not files:
        return
    path, number = files[number % len(files)], number // len(files)
    if what in ("junk", "drop"):
        try:
            places = list(_places(json.loads(path.read_text())))
        except ValueError:
            return
        if places:
            _edit(path, places[number % len(places)], *more)
        return
    data = path.read_bytes()
    path.unlink()
    if what == "truncate":
        path.write_bytes(data[: int(len(data) * more[0])])
    elif what == "flip":
        at = int(len(data) * more[0])
        path.write_bytes(data[:at] + bytes([data[at] ^ more[1]]) + data[at + 1 :] if data else b"")
    elif what == "text":
        path.write_text(more[0])
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        secret = root.parent / "secret.json"
        path.symlink_to({"self": path, "secret": secret, "up": root.parent}[more[0]])


def _places(value: Any, above: tuple[Any, ...] = ()) -> Any:
    """Where everything inside a JSON value is."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*above, key)
        if isinstance(item, (dict, list)):
            yield from _places(item, (*above, key))


def _edit(path: Path, keys: tuple[Any, ...], *value: Any) -> None:
    """Set what ``keys`` lead to, or without a value delete it."""
    try:
        root = inside = json.loads(path.read_text())
        for key in keys[:-1]:
            inside = inside[key]
        if value:
            inside[keys[-1]] = value[0]
        else:
            del inside[keys[-1]]
    except (LookupError, TypeError, ValueError):
        return
    path.write_text(json.dumps(root))


def copy_store(seed: Path, root: Path) -> Path:
    """A store of its own for one case."""
    return Path(shutil.copytree(seed, root))
