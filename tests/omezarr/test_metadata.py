from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.errors import StackError
from slidefusion.omezarr.metadata import level_sizes, multiscales, parse_multiscales
from slidefusion.omezarr.rendering import look_of, omero, with_windows, without_windows


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_levels_halve_until_they_are_small(height: int, width: int) -> None:
    sizes = level_sizes(height, width)
    assert sizes[0] == (height, width)
    assert max(sizes[-1]) <= 256
    assert all(max(size) > 256 for size in sizes[:-1])
    for (y, x), (y2, x2) in pairwise(sizes):
        assert (y2, x2) == ((y + 1) // 2, (x + 1) // 2)


@given(
    st.sampled_from(["czyx", "cyx", "zyx"]),
    st.integers(1, 9),
    st.floats(0.01, 10),
    st.floats(0.1, 30),
    st.floats(-50, 50),
)
def test_what_is_written_is_read_back(
    axes: str, levels: int, size: float, step: float, start: float
) -> None:
    block = multiscales(
        axes, levels, pixel_size_um=(size, 2 * size), z_step_um=step, z_start_um=start
    )
    image = parse_multiscales({"ome": {"version": "0.5", "multiscales": block}}, "here")
    assert (image.version, image.axes, len(image.paths)) == ("0.5", axes, levels)
    assert image.pixel_size_um == (size, 2 * size)
    if "z" in axes:
        at = axes.index("z")
        assert (image.scale[at], image.translation[at]) == (step, start)


def test_pixel_centres_of_a_level_lie_between_those_below() -> None:
    block = multiscales("cyx", 3, pixel_size_um=(0.5, 0.5))[0]["datasets"][2]
    scale, translation = block["coordinateTransformations"]
    assert scale["scale"] == [1.0, 2.0, 2.0]
    # The first pixel of level 2 is the mean of pixels 0 to 3: centre 1.5 pixels.
    assert translation["translation"] == [0.0, 0.75, 0.75]


def test_levels_of_every_second_pixel_begin_where_the_image_does() -> None:
    (block,) = multiscales("cyx", 3, pixel_size_um=(0.5, 0.5), method="nearest")
    assert block["type"] == "nearest"
    for dataset in block["datasets"]:
        assert [t["type"] for t in dataset["coordinateTransformations"]] == ["scale"]


def test_no_pixel_size_means_no_unit() -> None:
    block = multiscales("cyx", 1, pixel_size_um=None)
    assert not any("unit" in axis for axis in block[0]["axes"])
    image = parse_multiscales({"ome": {"version": "0.5", "multiscales": block}}, "here")
    assert image.pixel_size_um is None


def test_version_0_4_and_other_units_are_read() -> None:
    attributes = {
        "multiscales": [
            {
                "version": "0.4",
                "axes": [
                    {"name": "t", "type": "time"},
                    {"name": "c", "type": "channel"},
                    {"name": "z", "type": "space", "unit": "nanometer"},
                    {"name": "y", "type": "space", "unit": "millimeter"},
                    {"name": "x", "type": "space", "unit": "millimeter"},
                ],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1, 1, 500, 0.00025, 0.00025]}
                        ],
                    }
                ],
                "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2, 1, 1]}],
            }
        ],
        "omero": {"channels": [{"label": "DAPI"}, {}]},
    }
    image = parse_multiscales(attributes, "here")
    assert image.scale == pytest.approx((1, 1, 1.0, 0.25, 0.25))
    assert image.channel_names == ("DAPI", "channel 1")


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"multiscales": []},
        {"multiscales": "no"},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": []}]},
        {"multiscales": [{"axes": ["y"], "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"axes": ["y", "x"], "datasets": [{"pth": "0"}]}]},
        {
            "multiscales": [
                {
                    "axes": ["y", "x"],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [{"type": "scale", "scale": [1]}],
                        }
                    ],
                }
            ]
        },
        {"ome": {"multiscales": [3]}},
    ],
)
def test_damaged_metadata_gives_one_clear_error(attributes: dict[str, object]) -> None:
    with pytest.raises(StackError, match="here"):
        parse_multiscales(attributes, "here")


@pytest.mark.parametrize("channels", [1, 2, 3, 9])
def test_omero_has_a_colour_and_a_window_for_every_channel(channels: int) -> None:
    names = [f"c{k}" for k in range(channels)]
    block = omero(names, "uint8", rgb=False)
    assert [c["label"] for c in block["channels"]] == names
    for channel in block["channels"]:
        assert len(channel["color"]) == 6
        assert channel["window"] == {"min": 0, "max": 255, "start": 0, "end": 255}
    assert not without_windows(block)


@pytest.mark.parametrize(
    ("dtype", "values", "ends"),
    [
        ("uint16", (0, 3900, 60000), (1, 3900, 65535)),  # nothing, a 12-bit camera, 16 bits
        ("float32", (0.0, 0.8, 15920.0), (1.0, 1.0, 15920.0)),
    ],
)
def test_windows_reach_to_what_is_white(
    dtype: str, values: tuple[float, ...], ends: tuple[float, ...]
) -> None:
    pixels = np.zeros((3, 30, 30), dtype) + np.array(values, dtype)[:, None, None]
    for names, rgb in ((["a", "b", "c"], False), (["red", "green", "blue"], True)):
        block = omero(names, dtype, rgb=rgb)
        assert without_windows(block)
        shown = with_windows(block, pixels, rgb=rgb)
        assert not without_windows(shown)
        found = [channel["window"] for channel in shown["channels"]]
        full = {"uint16": 65535.0, "float32": 1.0}[dtype]
        wanted = [full if not value else end for value, end in zip(values, ends, strict=True)]
        assert [window["end"] for window in found] == ([wanted[2]] * 3 if rgb else wanted)
        assert all(window["start"] == window["min"] == 0 for window in found)
        assert all(window["max"] == max(window["end"], full) for window in found)


def test_a_window_that_is_known_stays_and_one_shows_what_is_negative() -> None:
    known = {"window": {"min": 0.0, "max": 9.0, "start": 1.0, "end": 5.0}}
    block = omero(["a", "b"], "float32", rgb=False, looks=[known, {}])
    pixels = np.linspace(-3, 7, 2 * 50 * 50, dtype=np.float32).reshape(2, 50, 50)[::-1]
    pixels[1, 0, 0] = np.nan
    first, second = (
        channel["window"] for channel in with_windows(block, pixels, rgb=False)["channels"]
    )
    assert first == known["window"]
    assert second["start"] == pytest.approx(-3, abs=0.02) and second["end"] == pytest.approx(2, 0.1)


@pytest.mark.parametrize(
    ("attributes", "example"),
    [
        ({"bioformats2raw.layout": 3}, "here/0"),
        ({"ome": {"version": "0.5", "bioformats2raw.layout": 3}}, "here/0"),
        ({"plate": {"wells": []}}, "here/A/1/0"),
        ({"well": {"images": [{"path": "0"}]}}, "here/0"),
    ],
)
def test_a_collection_of_images_says_where_they_are(attributes: Any, example: str) -> None:
    with pytest.raises(StackError, match=f"one image: give the path of one, such as {example}$"):
        parse_multiscales(attributes, "here")


_ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_NUMBER = st.one_of(_ANY, st.integers(0, 255), st.floats(0, 1), st.just(10**400))


@given(
    st.one_of(
        _ANY,
        st.fixed_dictionaries(
            {},
            optional={
                "color": _ANY | st.from_regex("[0-9a-fA-F]{6}", fullmatch=True),
                "window": _ANY
                | st.fixed_dictionaries(dict.fromkeys(("min", "max", "start", "end"), _NUMBER)),
                "active": _ANY,
                "inverted": _ANY,
            },
        ),
    )
)
def test_whatever_an_omero_block_says_what_is_written_is_sound(channel: Any) -> None:
    (shown,) = omero(["a"], "uint8", rgb=False, looks=[look_of(channel)])["channels"]
    json.dumps(shown, allow_nan=False)
    assert re.fullmatch("[0-9A-F]{6}", shown["color"]) and isinstance(shown["active"], bool)
    assert shown["window"]["start"] < shown["window"]["end"]


def test_what_is_sound_in_an_omero_block_is_kept() -> None:
    window = {"min": 0, "max": 9, "start": 1, "end": 5, "note": "x"}
    look = look_of({"color": "aabbcc", "window": window, "inverted": True, "active": 1})
    assert look["color"] == "AABBCC" and look["inverted"] is True and "active" not in look
    assert look["window"] == {"min": 0.0, "max": 9.0, "start": 1.0, "end": 5.0}


def test_a_version_to_come_is_refused() -> None:
    block = {"ome": {"version": "0.6", "multiscales": multiscales("yx", 1, pixel_size_um=None)}}
    with pytest.raises(StackError, match=r"version 0\.6, which is not known here"):
        parse_multiscales(block, "a.zarr")


@pytest.mark.parametrize("version", ["0.5.1", "0.5-dev-spatialdata", "0.1", "latest"])
def test_versions_like_those_that_are_known_are_read(version: str) -> None:
    block = {"version": version, "multiscales": multiscales("yx", 1, pixel_size_um=None)}
    assert parse_multiscales({"ome": block}, "a.zarr").version == version
    root = {"version": "2.1.0", "multiscales": [{**block["multiscales"][0], "version": "0.4"}]}
    assert parse_multiscales(root, "a.zarr").version == "0.4"


def test_a_unit_without_a_scale_is_no_size() -> None:
    block = multiscales("zyx", 1, pixel_size_um=(0.5, 0.5), z_step_um=2)
    del block[0]["datasets"][0]["coordinateTransformations"]
    image = parse_multiscales({"ome": {"version": "0.5", "multiscales": block}}, "a.zarr")
    assert (image.pixel_size_um, image.units_known) == (None, (False,) * 3)
