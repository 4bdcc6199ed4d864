"""Opening TIFF files: what tifffile makes of them and logs, and one clear error for the rest."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import PureWindowsPath
from typing import Any
from xml.etree import ElementTree

from slidefusion.errors import ReaderError, SlidefusionError, UnknownNameError
from slidefusion.omezarr.store import is_url
from slidefusion.readers.sources import kind, public_name, refuse_unsupported

__all__ = ["is_scan", "open_tiff"]


@dataclass
class _Log(logging.Handler):
    """Collects what tifffile logs in this thread."""

    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())

    __hash__ = object.__hash__


@contextmanager
def open_tiff(path: str) -> Iterator[tuple[Any, list[str]]]:
    """The ``tifffile.TiffFile`` at a path or URL with its series parsed, and what it logged.

    Raises:
        ReaderError: it is no TIFF file, or one that tifffile cannot make sense of.
        UnknownNameError: there is nothing at the URL.
    """
    import tifffile

    log, logger = _Log(), logging.getLogger("tifffile")
    file = _file_or_path(path)
    logger.addHandler(log)
    opened: Any = None
    try:
        try:
            opened = tifffile.TiffFile(file)
            _check_chain(opened)
            _check_files(opened)
            pages = [series.keyframe for series in opened.series]
            if any(series.kind == "generic" for series in opened.series):
                pages += opened.pages  # of these tifffile leaves those without pixels out
            empty = not pages or min(min(p.imagelength, p.imagewidth) for p in pages) < 1
        except Exception as error:  # a damaged file makes tifffile raise almost anything
            if not is_url(path):
                refuse_unsupported(path, kind(path))
            raise _unreadable(path, error) from error
        if empty:
            raise ReaderError(
                f"{public_name(path)} holds no picture, or one without pixels; it is damaged, "
                "truncated or of another format"
            )
        try:
            yield opened, log.messages
        except SlidefusionError:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            # Much of a page is worked out when it is asked for, from tags of any type and number.
            raise _unreadable(path, error) from error
    finally:
        logger.removeHandler(log)
        if opened is not None:
            opened.close()


def is_scan(path: str) -> bool:
    """Whether a TIFF file is a Leica SCN, of scan areas that have to be put together.

    Raises what `open_tiff` raises.
    """
    with open_tiff(path) as (tif, _):
        return bool(tif.is_scn)


def _unreadable(path: str, error: Exception) -> ReaderError:
    return ReaderError(
        f"{public_name(path)} cannot be read as TIFF: {type(error).__name__}: {error}; "
        "it is damaged, truncated or of another format"
    )


def _file_or_path(path: str) -> Any:
    if not is_url(path):
        return path
    import fsspec

    try:
        return fsspec.open(path, "rb").open()
    except ImportError as error:
        raise ReaderError(f"{public_name(path)} needs another package: {error}") from error
    except Exception as error:  # each kind of store has exceptions of its own
        if isinstance(error, FileNotFoundError):
            # So is a web server that does not answer, with the reason behind it.
            if error.__cause__ is None or isinstance(error.__cause__, FileNotFoundError):
                hint = "name each file, as patterns are looked up in local folders alone; "
                raise UnknownNameError(
                    f"there is no file {public_name(path)}; {hint * has_magic(path)}nothing was "
                    "read"
                ) from None
            error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ReaderError(
            f"{public_name(path)} cannot be opened: {type(error).__name__}: {error}; check the "
            "address, the credentials and the connection"
        ) from error


def _check_chain(tif: Any) -> None:
    """Refuse directories that follow each other in a circle: tifffile would go round for days."""
    form, file, seen = tif.tiff, tif.filehandle, set()
    offset = tif.pages.first.offset
    while 0 < offset < file.size:
        if offset in seen:
            raise ValueError(f"its directories form a circle (the one at byte {offset})")
        seen.add(offset)
        file.seek(offset)
        try:
            count = struct.unpack(form.tagnoformat, file.read(form.tagnosize))[0]
            file.seek(offset + form.tagnosize + count * form.tagsize)
            offset = struct.unpack(form.offsetformat, file.read(form.offsetsize))[0]
        except struct.error:  # truncated: told with what is missing, later
            return


def _check_files(tif: Any) -> None:
    """Refuse an OME-XML that names files outside of the folder of its own."""
    if not tif.is_ome:
        return
    for element in ElementTree.fromstring(tif.ome_metadata).iter():
        name = element.attrib.get("FileName", "")
        path = PureWindowsPath(name)  # knows both kinds of separators
        if path.root or path.drive or ".." in path.parts or "://" in name:
            raise ValueError(f"its OME-XML names the file {name!r} outside of its folder")
