"""How an image is shown: the blocks ``omero`` and ``image-label`` of OME-NGFF."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.omezarr.version import NGFF_VERSION
from slidefusion.value_range import value_range, white_of

__all__ = ["Look", "image_label", "look_of", "omero", "with_windows", "without_windows"]

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

    Without, channels of other dtypes than uint8, of which nobody knows how far they reach, have no
    window until `with_windows` looks at their pixels.

    >>> omero(["red", "green", "blue"], "uint8", rgb=True)["channels"][0]["color"]
    'FF0000'
    """
    window = {"window": _window(0.0, 255.0, dtype)} if dtype == "uint8" else {}
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
            **window,
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


def without_windows(block: Mapping[str, Any]) -> bool:
    """Whether a channel of this rendering block has no window yet."""
    return any("window" not in channel for channel in block["channels"])


def with_windows(
    block: Mapping[str, Any], pixels: npt.NDArray[Any], *, rgb: bool
) -> dict[str, Any]:
    """The block with a window from black to white for each channel that has none.

    ``pixels`` (C, Y, X) are a part or a smaller version of the image. Red, green and blue have one
    white, other channels one of their own (`white_of`); what is negative is shown, too.

    >>> block = omero(["dapi"], "uint16", rgb=False)
    >>> pixels = np.full((1, 9, 9), 3980, np.uint16)
    >>> with_windows(block, pixels, rgb=False)["channels"][0]["window"]
    {'min': 0.0, 'max': 65535.0, 'start': 0.0, 'end': 3980.0}
    """
    channels = []
    for k, channel in enumerate(block["channels"]):
        samples = pixels if rgb else pixels[k]
        finite = samples[np.isfinite(samples)]
        low = min(0.0, float(np.percentile(finite, 0.1))) if finite.size else 0.0
        window = _window(low, white_of(samples), samples.dtype)
        channels.append({"window": window, **channel})
    return {**block, "channels": channels}


def _window(start: float, end: float, dtype: npt.DTypeLike) -> dict[str, float]:
    return {"min": start, "max": max(end, value_range(dtype)), "start": start, "end": end}


def image_label(planes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ``image-label`` block of a depth map: what each plane index stands for.

    >>> image_label([{"focus_offset": 0, "z_um": 0.0}])["properties"][0]["label-value"]
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
