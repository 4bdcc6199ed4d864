"""Figures as pictures: crops side by side with the worst place enlarged, and curves over patches.

Drawn with Pillow, which is a dependency already: the figures are rows of images and plain lines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from slidefusion.evaluation.measuring import Patch
from slidefusion.value_range import value_range

__all__ = ["COLOURS", "crops", "curves", "eight_bit"]

COLOURS = (
    "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
    "#7f7f7f", "#bcbd22",
)  # fmt: skip
"""Of the methods, in order; after Tableau's ten."""

_CELL_PX = 256  # or twice the patch, if that is less
_GAP_PX = 6
_HEAD_PX = 26
_RED = "#e02020"
_FINER = 2  # lines are drawn twice as large, then halved, which smooths them
_PANEL_PX = (900, 250)


def crops(patches: Sequence[Patch], columns: Mapping[str, Any]) -> Image.Image:
    """Two rows a patch: the patch with its worst place framed, and that place enlarged.

    ``columns`` maps titles to the keys of ``Patch.shown``. The frame is chosen from plane 0 alone:
    the square where it is furthest from the reference.
    """
    cell = min(_CELL_PX, 2 * patches[0].window.width)
    width = len(columns) * (cell + _GAP_PX) - _GAP_PX
    height = _HEAD_PX + 2 * len(patches) * (cell + _GAP_PX) - _GAP_PX
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for column, (title, key) in enumerate(columns.items()):
        left = column * (cell + _GAP_PX)
        draw.text((left + 2, 4), _fitted(draw, title, font, cell), fill="black", font=font)
        for k, patch in enumerate(patches):
            top = _HEAD_PX + 2 * k * (cell + _GAP_PX)
            whole = eight_bit(patch.shown[key], patch.white)
            y, x, side, _ = patch.worst
            part = whole.crop((x, y, x + side, y + side))
            scale = cell / whole.width
            sheet.paste(_resized(whole, cell), (left, top))
            frame = [left + x * scale, top + y * scale]
            frame += [frame[0] + side * scale - 1, frame[1] + side * scale - 1]
            draw.rectangle(frame, outline=_RED, width=2)
            below = top + cell + _GAP_PX
            sheet.paste(_resized(part, cell), (left, below))
            corner = (left + cell - 1, below + cell - 1)
            draw.rectangle([(left, below), corner], outline=_RED, width=2)
    return sheet


def curves(
    series: Mapping[str, Mapping[str, Sequence[float]]], titles: Mapping[str, str]
) -> Image.Image:
    """A panel a metric, a line a method, over patches: ``series[metric][method]``.

    The first method's line is thick and dashed, as the paper draws its own.
    """
    width, height = (_FINER * side for side in _PANEL_PX)
    methods = list(next(iter(series.values())))
    legend = _FINER * 22 * math.ceil(len(methods) / 4) + _FINER * 10
    sheet = Image.new("RGB", (width, height * len(series) + legend), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13 * _FINER)
    for k, method in enumerate(methods):
        x, y = _FINER * (60 + 210 * (k % 4)), _FINER * (6 + 22 * (k // 4))
        _line(draw, [(x, y + 9 * _FINER), (x + 26 * _FINER, y + 9 * _FINER)], k)
        label = _fitted(draw, method, font, (210 - 32 - 10) * _FINER)
        draw.text((x + 32 * _FINER, y), label, fill="black", font=font)
    for n, (metric, lines) in enumerate(series.items()):
        _panel(draw, legend + n * height, titles[metric], lines, font)
    return sheet.resize((sheet.width // _FINER, sheet.height // _FINER), Image.Resampling.LANCZOS)


def eight_bit(image: npt.NDArray[Any], white: float | None = None) -> Image.Image:
    """(C, Y, X) of any dtype as a picture: three channels as RGB, else the first as gray.

    ``white`` (the range of the dtype if None) becomes 255.
    """
    if image.dtype != np.uint8:
        scaled = image.astype(np.float32) * np.float32(255 / (white or value_range(image.dtype)))
        image = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    if image.shape[0] == 3:
        return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return Image.fromarray(np.ascontiguousarray(image[0])).convert("RGB")


def _resized(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _fitted(draw: ImageDraw.ImageDraw, title: str, font: Any, width: int) -> str:
    """The title; one that would run into the next loses its first half but for a few letters, as
    the labels of two files of weights differ in the end."""
    cut = 0
    shown = title
    while cut < len(title) and draw.textlength(shown, font=font) > width:
        cut += 1
        first = (len(title) - cut + 1) // 3
        shown = f"{title[:first]}…{title[first + cut :]}"
    return shown


def _panel(
    draw: ImageDraw.ImageDraw,
    top: int,
    title: str,
    lines: Mapping[str, Sequence[float]],
    font: Any,
) -> None:
    width, height = (_FINER * side for side in _PANEL_PX)
    left, right = 60 * _FINER, width - 16 * _FINER
    upper, lower = top + 22 * _FINER, top + height - 24 * _FINER
    known = [v for values in lines.values() for v in values if math.isfinite(v)]
    low, high, step = _ticks(min(known, default=0.0), max(known, default=1.0))
    count = max(len(values) for values in lines.values())

    def at(k: int, value: float) -> tuple[float, float]:
        x = left + (right - left) * (k / max(1, count - 1))
        return x, lower - (lower - upper) * (value - low) / (high - low)

    draw.text((left, top + 2 * _FINER), title, fill="black", font=font)
    for n in range(round((high - low) / step) + 1):
        value = low + n * step
        y = at(0, value)[1]
        draw.line([(left, y), (right, y)], fill="#dddddd", width=_FINER)
        text = f"{value:.{max(0, -math.floor(math.log10(step)))}f}"
        draw.text((left - 8 * _FINER, y), text, fill="#444444", font=font, anchor="rm")
    for k in range(0, count, max(1, count // 10)):
        x = at(k, low)[0]
        draw.text((x, lower + 4 * _FINER), str(k + 1), fill="#444444", font=font, anchor="ma")
    # The first method lies on top.
    for n, values in reversed(list(enumerate(lines.values()))):
        points = [at(k, v) for k, v in enumerate(values) if math.isfinite(v)]
        _line(draw, points, n)
        for x, y in points:
            r = (2.5 if n == 0 else 1.8) * _FINER
            draw.ellipse([x - r, y - r, x + r, y + r], fill=COLOURS[n % len(COLOURS)])


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], n: int) -> None:
    colour, width = COLOURS[n % len(COLOURS)], (3 if n == 0 else 1) * _FINER
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if n:
            draw.line([(x0, y0), (x1, y1)], fill=colour, width=width)
            continue
        dashes = max(1, round(math.hypot(x1 - x0, y1 - y0) / (8 * _FINER)))
        for k in range(dashes):
            a, b = k / dashes, (k + 0.6) / dashes
            start = (x0 + a * (x1 - x0), y0 + a * (y1 - y0))
            end = (x0 + b * (x1 - x0), y0 + b * (y1 - y0))
            draw.line([start, end], fill=colour, width=width)


def _ticks(low: float, high: float) -> tuple[float, float, float]:
    """First, last and step of about five round numbers that enclose the values.

    >>> _ticks(0.81, 0.93)
    (0.8, 0.94, 0.02)
    """
    span = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= 7)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    if last <= first:
        last = first + step
    return round(first, 10), round(last, 10), round(step, 10)
