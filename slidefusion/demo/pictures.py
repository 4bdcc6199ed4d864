"""Arrays as pictures: colour maps, crops, and a figure of crops side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slidefusion.geometry import Window

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "colour_bar_css",
    "coloured",
    "crop",
    "data_uri",
    "depth_limit_um",
    "figure",
    "picture",
    "shrunk",
]

# Evenly spaced samples of viridis and inferno (matplotlib, CC0): equal steps look equal.
_MAPS = {
    "depth": "440154 482878 3e4a89 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "error": "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4",
}
_NOTHING = (222, 225, 229)


def _stops(name: str) -> npt.NDArray[np.float32]:
    return np.array([list(bytes.fromhex(text)) for text in _MAPS[name].split()], np.float32)


def colour_bar_css(name: Literal["depth", "error"]) -> str:
    """The colour map as a CSS gradient from left to right."""
    return f"linear-gradient(to right, {', '.join('#' + text for text in _MAPS[name].split())})"


def coloured(
    values: npt.NDArray[Any], low: float, high: float, name: Literal["depth", "error"]
) -> npt.NDArray[np.uint8]:
    """(Y, X) values as (3, Y, X) colours from ``low`` to ``high``; NaN is light gray.

    >>> coloured(np.array([[0.0, np.nan]]), 0, 1, "depth")[:, 0].tolist()
    [[68, 222], [1, 225], [84, 229]]
    """
    stops = _stops(name)
    known = np.isfinite(values)
    span = (np.where(known, values, low) - low) / max(high - low, 1e-9)
    table = np.stack(
        [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(stops)), c) for c in stops.T], 1
    )
    index = np.rint(np.clip(span, 0, 1) * 255).astype(np.intp)
    rgb = np.rint(table).astype(np.uint8)[index]
    rgb[~known] = _NOTHING
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def depth_limit_um(depth_um: npt.NDArray[np.float32]) -> float:
    """A symmetric limit in whole µm that nearly all depths lie within."""
    known = np.abs(depth_um[np.isfinite(depth_um)])
    return float(np.ceil(np.percentile(known, 99))) if known.size else 1.0


def crop(image: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    """``window`` of an image (..., Y, X)."""
    part: npt.NDArray[Any] = image[(..., *window.slices)]
    return part


def shrunk(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """(C, Y, X) as means of whole blocks, at most about ``side`` px."""
    factor = max(1, -(-max(image.shape[-2:]) // side))
    if factor == 1:
        return image
    c, height, width = image.shape
    h, w = height // factor, width // factor
    blocks = image[:, : h * factor, : w * factor].reshape(c, h, factor, w, factor)
    mean = blocks.mean(axis=(2, 4), dtype=np.float32)
    small: npt.NDArray[Any] = np.rint(mean) if image.dtype.kind == "u" else mean
    return small.astype(image.dtype)


def picture(image: npt.NDArray[np.uint8]) -> Image:
    """(C, Y, X), one or three channels, as a picture."""
    from PIL import Image

    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def data_uri(image: npt.NDArray[np.uint8], *, quality: int = 85, lossless: bool = False) -> str:
    """(C, Y, X) as a ``data:`` URI: JPEG, or PNG where edges must stay (maps)."""
    buffer = io.BytesIO()
    if lossless:
        picture(image).save(buffer, "PNG")
    else:
        picture(image).save(buffer, "JPEG", quality=quality, optimize=True)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def figure(
    path: Path, titles: Sequence[str], rows: Sequence[Sequence[npt.NDArray[np.uint8]]]
) -> None:
    """Write crops (3, Y, X) of one size side by side, a title above each column, as JPEG."""
    from PIL import Image, ImageDraw, ImageFont

    gap, head = 6, 30
    height, width = rows[0][0].shape[1:]
    size = (
        len(titles) * (width + gap) - gap,
        head + len(rows) * (height + gap) - gap,
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(17)
    for k, title in enumerate(titles):
        draw.text((k * (width + gap) + 2, 5), title, fill="black", font=font)
        for n, row in enumerate(rows):
            part = picture(row[k]).convert("RGB")
            sheet.paste(part, (k * (width + gap), head + n * (height + gap)))
    sheet.save(path, "JPEG", quality=87, optimize=True)
