"""How an image is shown: the blocks ``omero`` and ``image-label`` of OME-NGFF."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slidefusion.omezarr.version import NGFF_VERSION

__all__ = ["Look", "image_label", "look_of", "omero"]

Look = Mapping[str, Any]
"""What is known of how a channel is shown: of ``"color"`` (RRGGBB), ``"window"``, ``"active"`` and
``"inverted"``."""

_COLOUR = re.compile("[0-9A-Fa-f]{6}")
_WINDOW = ("min", "max", "start", "end")


def look_of(channel: Any) -> Look:
    """What a channel of somebody's ``omero`` block says of how it is shown, as far as it is sound.

    >>> look_of({"color": "00ffff", "window": {"start": 10, "end": "much"}, "label": "dapi"})
    {'color': '00FFFF'}
    """
    found: dict[str, Any] = {}
    if not isinstance(channel, Mapping):
        return found
    if _COLOUR.fullmatch(str(channel.get("color"))):
        found["color"] = str(channel["color"]).upper()
    window: Any = channel.get("window")
    whole = isinstance(window, Mapping) and all(_is_number(window.get(k)) for k in _WINDOW)
    if whole and window["start"] < window["end"]:
        found["window"] = {key: float(window[key]) for key in _WINDOW}
    for key in ("active", "inverted"):
        if isinstance(channel.get(key), bool):
            found[key] = channel[key]
    return found


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e300  # not NaN, either


def omero(
    channel_names: Sequence[str], dtype: str, *, rgb: bool, looks: Sequence[Look] = ()
) -> dict[str, Any]:
    """The rendering block: colour and window of every channel, by ``looks`` if it is given.

    >>> omero(["red", "green", "blue"], "uint8", rgb=True)["channels"][0]["color"]
    'FF0000'
    """
    end = {"uint8": 255.0, "uint16": 65535.0}.get(dtype, 1.0)
    if rgb:
        colours = ["FF0000", "00FF00", "0000FF"]
    elif len(channel_names) == 1:
        colours = ["FFFFFF"]
    else:
        cycle = ["FF0000", "00FF00", "0000FF", "FF00FF", "00FFFF", "FFFF00", "FFFFFF"]
        colours = [cycle[k % len(cycle)] for k in range(len(channel_names))]
    fit = len(looks) == len(channel_names)
    known = [look_of(look) for look in looks] if fit else [{}] * len(channel_names)
    channels = [
        {
            "label": label,
            "color": colour,
            "active": True,
            "coefficient": 1.0,
            "family": "linear",
            "inverted": False,
            "window": {"min": 0.0, "max": end, "start": 0.0, "end": end},
            **look,
        }
        for label, colour, look in zip(channel_names, colours, known, strict=True)
    ]
    return {
        "name": "",
        "version": NGFF_VERSION,
        "channels": channels,
        "rdefs": {"model": "color", "defaultZ": 0, "defaultT": 0},
    }


def image_label(planes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ``image-label`` block of a depth map: what each plane index stands for.

    >>> image_label([{"offset": 0, "z_um": 0.0}])["properties"][0]["label-value"]
    0
    """
    count = max(1, len(planes) - 1)
    colours = [
        # dark to light along z: neighbouring planes look alike
        {"label-value": k, "rgba": [v := round(255 * k / count), v, v, 255]}
        for k in range(len(planes))
    ]
    properties = [{"label-value": k, **plane} for k, plane in enumerate(planes)]
    return {
        "version": NGFF_VERSION,
        "colors": colours,
        "properties": properties,
        "source": {"image": "../../"},
    }
