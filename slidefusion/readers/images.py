"""A folder, list or glob of plain pictures (PNG, JPEG, BMP …), one a plane."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError, ReaderError
from slidefusion.geometry import Size, Window
from slidefusion.omezarr.store import is_url
from slidefusion.readers.base import Source, new_opening, reopen
from slidefusion.readers.order import gap_in
from slidefusion.readers.pixels import drop_alpha
from slidefusion.readers.planes import all_alike
from slidefusion.readers.sources import (
    IMAGES,
    describe,
    kind,
    plane_files,
    public_name,
    refuse_unsupported,
)
from slidefusion.stack_shape import default_names

__all__ = ["ImagesReader", "decode", "opened", "wide"]

_MODES = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "LA": 2, "RGB": 3, "RGBA": 4, "P": 3, "YCbCr": 3}
_PNG_16_BIT = b"\x10"
_limit = threading.Lock()


class ImagesReader:
    """Pictures of one plane each. A picture is decoded as a whole, whatever window is read.

    What a file is, its first bytes say, not its name. Such files state no pixel size.

    Args:
        source: paths, a glob, or a folder.
    """

    name: ClassVar[str] = "images"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether ``source`` is one or more plain pictures."""
        paths = [source] if isinstance(source, str) else list(source)
        if any(is_url(str(path)) for path in paths):
            return False
        return kind(plane_files(source)[0][0]) in IMAGES

    def __init__(self, source: Source):
        files, order = plane_files(source)
        self._source = source if isinstance(source, str) else tuple(source)
        self._opening = new_opening()
        self._files = files
        self.gap = gap_in(files)
        """Where the numbers in the names of the files skip some, which are planes missing."""
        headers = [_Header(path) for path in files]
        all_alike("size", files, [f"{h.size.height} x {h.size.width} px" for h in headers])
        all_alike("type of values", files, [h.dtype.name for h in headers])
        all_alike("number of channels", files, [h.channels for h in headers])
        first = headers[0]
        self.shape = (first.channels, len(files), *first.size)
        self.dtype = first.dtype
        self.pixel_size_um: tuple[float, float] | None = None
        self.z_um: tuple[float, ...] | None = None
        self.is_rgb = first.channels == 3
        self.channel_names = default_names(first.channels, self.is_rgb)
        self.tile: Size = first.size
        self.provenance = _provenance(files, order, first.format)

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of plane ``z`` as an array (C, h, w).

        Raises:
            ProcessingError: the picture cannot be decoded.
            StackError: it has transparent pixels.
        """
        path = self._files[z]
        try:
            image = decode(path)
        except (OSError, ValueError, RuntimeError, SyntaxError) as error:
            raise ProcessingError(
                f"{public_name(path)} cannot be decoded: {error}; it is damaged: copy it again"
            ) from error
        if image.ndim == 2:
            image = image[..., np.newaxis]
        rows, columns = window.slices
        part = np.ascontiguousarray(image[rows, columns].transpose(2, 0, 1), dtype=self.dtype)
        return drop_alpha(part, public_name(path)) if len(part) in (2, 4) else part

    def close(self) -> None:
        """Nothing stays open."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (ImagesReader, self._source, (), self._opening)


class _Header:
    """Size, channels (alpha not counted) and dtype of a picture, without decoding it."""

    def __init__(self, path: str) -> None:
        what = kind(path)
        if what not in IMAGES:
            refuse_unsupported(path, what)
            raise ReaderError(
                f"{public_name(path)} is no picture that can be read ({what}); the planes may be "
                f"{', '.join(sorted(IMAGES))}"
            )
        try:
            with opened(path) as image:
                frames = getattr(image, "n_frames", 1)
                width, height = image.size
                mode, self.format = image.mode, str(image.format)
                if _orientation(image) in (5, 6, 7, 8):
                    width, height = height, width
        except (OSError, ValueError, SyntaxError) as error:
            raise ReaderError(
                f"{public_name(path)} cannot be opened as a picture: {error}; it is damaged or "
                "truncated"
            ) from error
        if frames > 1 and self.format != "MPO":
            raise ReaderError(
                f"{public_name(path)} holds {frames} pictures where one a plane is expected: save "
                "them as separate files, or as one TIFF stack"
            )
        if mode not in _MODES:
            raise ReaderError(
                f"{public_name(path)} stores {mode} colours; save the planes as gray or RGB first"
            )
        self.size = Size(height, width)
        channels = _png_channels(path) if _is_16_bit_png(path, what) else _MODES[mode]
        self.channels = channels - (channels in (2, 4))
        self.dtype = np.dtype("uint16" if wide(path, mode) else "uint8")


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open with Pillow, without its limit of 179 megapixels: slides are larger."""
    from PIL import Image

    with _limit, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def wide(path: str, mode: str) -> bool:
    """Whether a picture that Pillow opens in ``mode`` has more than 8 bits a channel."""
    what = kind(path)
    return mode.startswith("I;16") or _is_16_bit_png(path, what) or _jp2_bits(path, what) > 8


def decode(path: str) -> npt.NDArray[Any]:
    """The pixels of a picture, (Y, X) or (Y, X, S), as uint8 or uint16; the right way up."""
    what = kind(path)
    with opened(path) as image:
        orientation = _orientation(image)
        # Pillow reads colours of more than 8 bits as 8, and stretches gray JPEG 2000.
        if _is_16_bit_png(path, what) or _jp2_bits(path, what) > 8:
            import imagecodecs

            codec = imagecodecs.png_decode if what == "png" else imagecodecs.jpeg2k_decode
            return _upright(codec(Path(path).read_bytes()), orientation)
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode in ("1", "L", "RGB") and "transparency" in image.info:  # one colour is
            image = image.convert("RGBA" if image.mode == "RGB" else "LA")
        elif image.mode in ("1", "YCbCr"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        return _upright(np.asarray(image), orientation)


def _upright(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """(Y, X) or (Y, X, S) turned as the EXIF orientation 1 to 8 says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _orientation(image: Any) -> int:
    # Pillow decodes a whole PNG to find out that it has none, and turns a TIFF by itself.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return int(image.getexif().get(0x0112, 1))


def _png_header(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(26)


def _is_16_bit_png(path: str, what: str) -> bool:
    return what == "png" and _png_header(path)[24:25] == _PNG_16_BIT


def _png_channels(path: str) -> int:
    return {0: 1, 2: 3, 4: 2, 6: 4}[_png_header(path)[25]]


def _jp2_bits(path: str, what: str) -> int:
    """Bits of the deepest channel of a JPEG 2000 picture; 0 for any other."""
    if what != "jp2":
        return 0
    with Path(path).open("rb") as file:
        data = file.read(1 << 20)
    start = data.find(b"\xff\x4f\xff\x51")  # the codestream and its size segment
    count = int.from_bytes(data[start + 40 : start + 42])
    depths = data[start + 42 : start + 42 + 3 * count : 3]
    return max((depth & 0x7F) + 1 for depth in depths) if start >= 0 and depths else 0


def _provenance(files: list[str], order: str, format_name: str) -> dict[str, Any]:
    import PIL

    return {
        "reader": ImagesReader.name,
        "format": format_name,
        "files": describe(files),
        "order": order,
        "versions": {"pillow": PIL.__version__},
    }
