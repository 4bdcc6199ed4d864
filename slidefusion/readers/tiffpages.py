"""Rectangles of TIFF pages, decoded segment by segment, from any thread.

tifffile parses and decodes; this module finds which tiles or strips a rectangle needs and reads
their bytes without a lock. A Zarr view of the same file takes longer and cannot cut a strip of
uncompressed rows.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError, ReaderError
from slidefusion.geometry import Size, Window
from slidefusion.omezarr.store import is_url
from slidefusion.readers.sources import public_name

__all__ = ["ByteFile", "Page", "check_coding", "pages_of"]


_TO_RGB = frozenset({6, 7, 34892, 33007, 34712, 33004, 33005, 22610, 34934, 50001, 50002, 52546})
"""Compressions (JPEG, JPEG 2000, JPEG XR, WebP, JPEG XL) whose decoders give RGB for YCbCr."""


class ByteFile:
    """A local file or a URL, read at any offset by any number of threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        if is_url(path):
            import fsspec

            self._file: Any = fsspec.open(path, "rb").open()
            self.size_bytes = int(self._file.size)
        else:
            self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by close
            self.size_bytes = os.fstat(self._file.fileno()).st_size
        # A reader that is let go of closes its files, like one that fails to open.
        self._close = weakref.finalize(self, self._file.close)
        self._pread = None if is_url(path) else getattr(os, "pread", None)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``.

        Raises:
            ProcessingError: the file ends before, or reading fails.
        """
        try:
            data = self._some(offset, count)
            while len(data) < count:  # no call gives more than 2 GiB
                more = self._some(offset + len(data), count - len(data))
                if not more:
                    break
                data += more
        except (OSError, ValueError) as error:
            raise ProcessingError(f"cannot read {public_name(self.path)}: {error}") from error
        if len(data) != count:
            raise ProcessingError(
                f"{public_name(self.path)} ends early: {count} bytes were to be read at {offset}, "
                f"{len(data)} are there; the file is truncated: copy it again"
            )
        return bytes(data)

    def _some(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes; none at the end of the file."""
        if self._pread is not None:
            return bytes(self._pread(self._file.fileno(), count, offset))
        with self._lock:
            self._file.seek(offset)
            return bytes(self._file.read(count))

    def close(self) -> None:
        """Close the file."""
        self._close()


@dataclass(frozen=True, eq=False)
class Page:
    """One picture (S, Y, X) of a TIFF file: where its segments lie and how they are coded."""

    file: ByteFile
    offsets: Sequence[int]
    """Of every segment, in bytes; 0 where the segment is empty."""
    counts: Sequence[int]
    """Size of every segment in bytes."""
    coding: Any
    """The ``tifffile.TiffPage`` that says how segments are laid out and decoded."""
    jpegtables: bytes | None
    """Of this page, which may differ from those of ``coding``."""
    raw: bool
    """Whether the rows lie in the file as they are in memory, one after the other."""
    only: int | None = None
    """The one separately stored sample that is meant; None is all."""

    @property
    def samples(self) -> int:
        """Samples a pixel, interleaved or not."""
        return len(self._separate) * int(self.coding.shaped[4])

    @property
    def _separate(self) -> range:
        """The separately stored samples that are meant."""
        return (
            range(int(self.coding.shaped[0]))
            if self.only is None
            else range(self.only, self.only + 1)
        )

    @property
    def size(self) -> Size:
        """Height and width in px."""
        return Size(int(self.coding.shaped[2]), int(self.coding.shaped[3]))

    @property
    def tile(self) -> Size:
        """Size in px of what has to be read at once; (1, 1) where any rectangle can be."""
        height, width = self.size
        if self.raw:
            return Size(1, 1)
        if self.coding.is_tiled:
            return Size(int(self.coding.tilelength), int(self.coding.tilewidth))
        return Size(min(int(self.coding.rowsperstrip), height), width)

    def read(self, window: Window, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (S, h, w) with ``window``.

        Raises:
            ProcessingError: a segment is missing or damaged.
        """
        if self.raw:
            self._read_rows(window, out)
        else:
            self._read_segments(window, out)

    def _read_rows(self, window: Window, out: npt.NDArray[Any]) -> None:
        _, _, height, width, contig = self.coding.shaped
        dtype = np.dtype(self.coding.parent.byteorder + self.coding.dtype.str[1:])
        row = width * contig * dtype.itemsize
        narrow = window.width * 4 < width
        for k, s in enumerate(self._separate):
            start = self.offsets[0] + (s * height + window.y) * row
            part = out[k * contig : (k + 1) * contig]
            if not narrow:
                data = self.file.read(start, window.height * row)
                rows = np.frombuffer(data, dtype).reshape(window.height, width, contig)
                part[:] = rows[:, window.x : window.right].transpose(2, 0, 1)
                continue
            pixel = contig * dtype.itemsize
            for y in range(window.height):
                data = self.file.read(start + y * row + window.x * pixel, window.width * pixel)
                part[:, y] = np.frombuffer(data, dtype).reshape(window.width, contig).T

    def _read_segments(self, window: Window, out: npt.NDArray[Any]) -> None:
        _, _, height, width, contig = self.coding.shaped
        tile = self.tile
        down, across = -(-height // tile.height), -(-width // tile.width)
        for k, s in enumerate(self._separate):
            part = out[k * contig : (k + 1) * contig]
            for ty in range(window.y // tile.height, -(-window.bottom // tile.height)):
                for tx in range(window.x // tile.width, -(-window.right // tile.width)):
                    data = self._segment((s * down + ty) * across + tx)
                    top, left = ty * tile.height, tx * tile.width
                    y0, y1 = max(top, window.y), min(top + tile.height, window.bottom)
                    x0, x1 = max(left, window.x), min(left + tile.width, window.right)
                    target = part[:, y0 - window.y : y1 - window.y, x0 - window.x : x1 - window.x]
                    if data is None:
                        target[:] = self.coding.nodata
                    else:
                        inside = data[0, y0 - top : y1 - top, x0 - left : x1 - left]
                        target[:] = inside.transpose(2, 0, 1)

    def _segment(self, index: int) -> npt.NDArray[Any] | None:
        """Segment ``index`` decoded to (1, h, w, S), or None where the file stores none."""
        offset, count = int(self.offsets[index]), int(self.counts[index])
        if offset == 0 or count == 0:
            return None
        encoded = self.file.read(offset, count)
        options: dict[str, Any] = {}
        if self.jpegtables is not None:
            options["jpegtables"] = self.jpegtables
        if self.coding.jpegheader is not None:
            options["jpegheader"] = self.coding.jpegheader
        try:
            decoded = self.coding.decode(encoded, index, **options)[0]
        except MemoryError:
            raise
        except Exception as error:  # each codec has exceptions of its own
            raise ProcessingError(
                f"segment {index} of {public_name(self.file.path)} at byte {offset} cannot be "
                f"decoded: {type(error).__name__}: {error}; the file is damaged: copy it again"
            ) from error
        result: npt.NDArray[Any] | None = decoded
        return result


def pages_of(
    series: Any, path: str, files: dict[str, ByteFile], *, split: bool = False
) -> list[Page]:
    """Every page of a ``tifffile.TiffPageSeries`` of the file at ``path``, in its order.

    ``files`` keeps the files open that the pages lie in, by path: OME-TIFF may spread over several.
    With ``split`` every separately stored sample counts as a page.

    Raises:
        ReaderError: a page is missing, or lies nowhere or beyond the end of its file.
    """
    coding = series.keyframe
    root = coding.parent.root.filehandle
    check_coding(series, coding, path)
    if series.dataoffset is not None:
        return _split(_virtual_pages(series, coding, _open(path, files)), split)
    pages = []
    for number, page in enumerate(series.pages):
        if page is None or page.keyframe is None:
            raise ReaderError(
                f"plane {number} of the {len(series.pages)} in {public_name(path)} is missing "
                "(the file is truncated, or one of a set of files is not there): restore it"
            )
        if page.keyframe is not coding:
            check_coding(series, page.keyframe, path)
        handle = page.parent.filehandle
        file = _open(path if handle is root else str(handle.path), files)
        offsets, counts = page.dataoffsets, page.databytecounts
        _check_extent(file, offsets, counts, number)
        tables = page.jpegtables if page.jpegtables is not None else coding.jpegtables
        raw = _is_raw(page.keyframe, offsets, counts)
        pages.append(Page(file, offsets, counts, page.keyframe, tables, raw))
    return _split(pages, split)


def _split(pages: list[Page], split: bool) -> list[Page]:
    if not split:
        return pages
    return [replace(page, only=s) for page in pages for s in range(int(page.coding.shaped[0]))]


def _virtual_pages(series: Any, coding: Any, file: ByteFile) -> list[Page]:
    """The pages of a series that is one contiguous block, described by its first page alone."""
    count = series.size // coding.size
    pages = []
    for k in range(count):
        offsets, counts = [series.dataoffset + k * coding.nbytes], [coding.nbytes]
        _check_extent(file, offsets, counts, k)
        pages.append(Page(file, offsets, counts, coding, None, True))
    return pages


def _open(path: str, files: dict[str, ByteFile]) -> ByteFile:
    if path not in files:
        try:
            files[path] = ByteFile(path)
        except OSError as error:
            raise ReaderError(f"cannot open {public_name(path)}: {error}") from error
    return files[path]


def _check_extent(
    file: ByteFile, offsets: Sequence[int], counts: Sequence[int], number: int
) -> None:
    if not all(isinstance(value, int | np.integer) for value in (*offsets, *counts)):
        raise ReaderError(
            f"{public_name(file.path)} does not say in numbers where the bytes of its plane "
            f"{number} lie: the file is damaged; copy it again"
        )
    end = max((int(o) + int(c) for o, c in zip(offsets, counts, strict=False)), default=0)
    if end > file.size_bytes or not len(offsets):
        raise ReaderError(
            f"{public_name(file.path)} is truncated: its plane {number} ends at byte {end}, the "
            f"file at byte {file.size_bytes}; copy it again"
        )


def _is_raw(coding: Any, offsets: Sequence[int], counts: Sequence[int]) -> bool:
    if coding.compression != 1 or coding.is_tiled or coding.predictor != 1:
        return False
    if coding.fillorder != 1 or coding.is_subsampled or coding.bitspersample not in (8, 16, 32):
        return False
    joined = all(offsets[k] + counts[k] == offsets[k + 1] for k in range(len(offsets) - 1))
    return joined and sum(counts) == coding.nbytes and offsets[0] > 0


def check_coding(series: Any, coding: Any, path: str) -> None:
    """Refuse pictures that would be decoded to something else than what they show.

    Raises:
        ReaderError: naming the coding and the way out.
    """
    name = public_name(path)
    if coding.shaped[1] != 1:
        raise ReaderError(
            f"{name} holds volumetric tiles (ImageDepth {coding.shaped[1]}): write one page a plane"
        )
    if coding.compression == 33003:
        # tifffile decodes these to YCbCr and does not know that they are not RGB.
        raise ReaderError(
            f"{name} is compressed as Aperio JPEG 2000 YCbCr (33003), whose colours no reader here "
            "converts: export it as OME-TIFF or as JPEG-compressed SVS"
        )
    photometric = getattr(coding.photometric, "name", "")
    if photometric == "YCBCR" and coding.compression not in _TO_RGB:
        raise ReaderError(
            f"{name} stores YCbCr colours without JPEG compression, which nothing here converts; "
            "save the planes as RGB first"
        )
    if photometric in ("SEPARATED", "CIELAB", "ICCLAB", "ITULAB", "CFA") or (
        photometric == "PALETTE" and series.kind not in ("imagej", "ome")
    ):
        raise ReaderError(
            f"{name} stores {photometric} colours; save the planes as gray or RGB first"
        )
