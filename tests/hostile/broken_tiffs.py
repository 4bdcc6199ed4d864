"""Ways to break a TIFF file, drawn by hypothesis and applied to a sound one."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from .seeds import TIFFS

Change = tuple[Any, ...]

_TAGS = {
    "ImageWidth": 256,
    "ImageLength": 257,
    "BitsPerSample": 258,
    "Compression": 259,
    "Photometric": 262,
    "ImageDescription": 270,
    "StripOffsets": 273,
    "SamplesPerPixel": 277,
    "RowsPerStrip": 278,
    "StripByteCounts": 279,
    "XResolution": 282,
    "PlanarConfig": 284,
    "Predictor": 317,
    "TileWidth": 322,
    "TileLength": 323,
    "TileOffsets": 324,
    "TileByteCounts": 325,
    "SubIFDs": 330,
    "ExtraSamples": 338,
    "SampleFormat": 339,
}
_NUMBERS = (0, 1, 2, 7, 8, 64, 255, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)

_BOMB = "".join(
    [
        '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a0 "ha">',
        *(f'<!ENTITY a{k + 1} "{f"&a{k};" * 10}">' for k in range(12)),
        ']><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"',
        ' Name="&a12;"/></OME>',
    ]
)
_REACHING = (
    '<?xml version="1.0"?><!DOCTYPE o [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"'
    ' Name="&f;"/></OME>'
)
_XML: tuple[tuple[str, str], ...] = (
    *(('SizeZ="3"', f'SizeZ="{n}"') for n in (0, 2, 4, -1, 10**9, "three", 10**30)),
    *(('SizeX="100"', f'SizeX="{n}"') for n in (0, 99, 2**31, -5)),
    *(('SizeC="1"', f'SizeC="{n}"') for n in (0, 3, 10**9)),
    *(('SizeT="1"', f'SizeT="{n}"') for n in (0, 3, 10**9)),
    *(('Type="uint8"', f'Type="{n}"') for n in ("double", "complex", "bit", "x", "int16")),
    *(("DimensionOrder=", f'DimensionOrder="{n}" was=') for n in ("XYXYX", "ABC", "", "XYCTZ")),
    *(("<TiffData", f'<TiffData IFD="{n}"') for n in (2, 10**9, -1)),
    *(("<TiffData", f'<TiffData FirstZ="{n}"') for n in (1, 10**9, -7)),
    *(('PlaneCount="3"', f'PlaneCount="{n}"') for n in (1, 10**9, -2)),
    *(('PhysicalSizeX="0.25"', f'PhysicalSizeX="{n}"') for n in ("NaN", "-1", "0", "inf", "a")),
    *(('PhysicalSizeZ="1.0"', f'PhysicalSizeZ="{n}"') for n in ("NaN", "-1", "1e-400", "1e308")),
    *(("<Pixels", "<Pixel"), ("<Image", "<Picture"), ("</OME>", ""), ("<OME", "<OME><OME")),
)
_FILES = (
    "../secret.tif",
    "../../secret.tif",
    "/etc/passwd",
    "in.ome.tif",
    "",
    "http://127.0.0.1:9/a",
)
_DESCRIPTIONS = (
    *(_BOMB, _REACHING, '{"shape": [1000000000000, 80, 100]}', '{"shape": []}', '{"shape": "x"}'),
    *('{"shape": [3, -80, 100]}', '{"shape": [3, 80, 100], "axes": "QQQ"}', "{" * 5000, "\x00" * 9),
    *("ImageJ=1.53\nimages=1000000000\nslices=1000000000\n", "ImageJ=1.53\nimages=x\nslices=-3\n"),
    *(
        "ImageJ=1.53\nimages=3\nslices=3\nunit=um\nspacing=nan\n",
        "Aperio |MPP = nan",
        "Aperio |MPP",
    ),
)

changes = st.one_of(
    st.tuples(st.just("truncate"), st.floats(0, 0.999)),
    st.tuples(st.just("flip"), st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)))),
    st.tuples(
        st.just("tag"), st.integers(0, 9), st.sampled_from([*_TAGS]), st.sampled_from(_NUMBERS)
    ),
    st.tuples(
        st.just("count"), st.integers(0, 9), st.sampled_from([*_TAGS]), st.sampled_from(_NUMBERS)
    ),
    st.tuples(
        st.just("type"),
        st.integers(0, 9),
        st.sampled_from([*_TAGS]),
        st.sampled_from((0, 2, 5, 12, 99)),
    ),
    st.tuples(
        st.just("next"), st.integers(0, 9), st.sampled_from(("self", "first", "beyond", "odd"))
    ),
    st.tuples(st.just("xml"), st.sampled_from(_XML)),
    st.tuples(st.just("file"), st.sampled_from(_FILES)),
    st.tuples(st.just("describe"), st.sampled_from(_DESCRIPTIONS)),
)

broken_tiffs = st.tuples(st.sampled_from(TIFFS), st.lists(changes, min_size=1, max_size=2))


def break_tiff(data: bytes, changes: list[Change]) -> bytes:
    """``data`` with ``changes``; those that do not fit it do nothing."""
    for what, *arguments in changes:
        data = _CHANGES[what](bytearray(data), *arguments)
    return bytes(data)


def _truncate(data: bytearray, where: float) -> bytearray:
    return data[: int(len(data) * where)]


def _flip(data: bytearray, flips: list[tuple[float, int]]) -> bytearray:
    for where, bits in flips:
        if data:
            data[int(len(data) * where)] ^= bits
    return data


def _directories(data: bytearray) -> tuple[str, bool, list[tuple[int, int]]]:
    """Byte order, whether offsets have 64 bits, and place and number of entries of each IFD."""
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 4 and struct.unpack_from(order + "H", data, 2)[0] == 43
    found: list[tuple[int, int]] = []
    try:
        at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        while at and len(found) < 20:
            count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
            found.append((at, count))
            after = at + (8 + 20 * count if big else 2 + 12 * count)
            at = struct.unpack_from(order + ("Q" if big else "I"), data, after)[0]
    except struct.error:
        pass
    return order, big, found


def _entry(data: bytearray, number: int, tag: str) -> tuple[str, bool, int] | None:
    """Byte order, whether offsets have 64 bits, and where the entry of a tag lies."""
    order, big, directories = _directories(data)
    if not directories:
        return None
    at, count = directories[number % len(directories)]
    for k in range(min(count, 100)):
        place = at + (8 + 20 * k if big else 2 + 12 * k)
        if place + 2 <= len(data) and struct.unpack_from(order + "H", data, place)[0] == _TAGS[tag]:
            return order, big, place
    return None


def _tag(data: bytearray, number: int, tag: str, value: int) -> bytearray:
    if found := _entry(data, number, tag):
        order, big, place = found
        struct.pack_into(order + "H", data, place + 2, 4)  # one unsigned number of 32 bits
        struct.pack_into(order + ("Q" if big else "I"), data, place + 4, 1)
        struct.pack_into(order + "I", data, place + (12 if big else 8), value)
    return data


def _count(data: bytearray, number: int, tag: str, value: int) -> bytearray:
    if found := _entry(data, number, tag):
        order, big, place = found
        struct.pack_into(order + ("Q" if big else "I"), data, place + 4, value)
    return data


def _type(data: bytearray, number: int, tag: str, value: int) -> bytearray:
    if found := _entry(data, number, tag):
        order, _, place = found
        struct.pack_into(order + "H", data, place + 2, value)
    return data


def _next(data: bytearray, number: int, where: str) -> bytearray:
    order, big, directories = _directories(data)
    if directories:
        at, count = directories[number % len(directories)]
        target = {"self": at, "first": directories[0][0], "beyond": 2**31, "odd": at + 3}[where]
        after = at + (8 + 20 * count if big else 2 + 12 * count)
        if after + 8 <= len(data):
            struct.pack_into(order + ("Q" if big else "I"), data, after, target)
    return data


def _xml(data: bytearray, change: tuple[str, str]) -> bytearray:
    found = _description(data)
    return data if found is None else _describe(data, found.replace(*change, 1))


def _file(data: bytearray, name: str) -> bytearray:
    found = _description(data)
    if found is None:
        return data
    uuid = "urn:uuid:00000000-0000-0000-0000-00000000000"
    inside = rf"\1><UUID FileName='{name}'>{uuid}2</UUID></TiffData>"
    return _describe(data, re.sub(r"(<TiffData[^>]*)/>", inside, found))


def _description(data: bytearray) -> str | None:
    found = _entry(data, 0, "ImageDescription")
    if found is None:
        return None
    order, big, place = found
    count, at = struct.unpack_from(order + ("QQ" if big else "II"), data, place + 4)
    return data[at : at + count].rstrip(b"\0").decode("utf-8", "replace")


def _describe(data: bytearray, text: str) -> bytearray:
    """Put ``text`` at the end of the file and let the first page's description point there."""
    if found := _entry(data, 0, "ImageDescription"):
        order, big, place = found
        raw = text.encode() + b"\0"
        struct.pack_into(order + ("QQ" if big else "II"), data, place + 4, len(raw), len(data))
        data += raw
    return data


_CHANGES: dict[str, Any] = {
    "truncate": _truncate,
    "flip": _flip,
    "tag": _tag,
    "count": _count,
    "type": _type,
    "next": _next,
    "xml": _xml,
    "file": _file,
    "describe": _describe,
}


def write_broken(seed: Path, out: Path, changes: list[Change]) -> Path:
    """A file of its own for one case."""
    out.write_bytes(break_tiff(seed.read_bytes(), changes))
    return out
