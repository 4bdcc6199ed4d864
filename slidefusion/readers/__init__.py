"""Slide formats, one a file, under one :class:`~slidefusion.readers.base.Reader` protocol.

========  ==========================================================================
tiff      one file of many planes: OME-TIFF, ImageJ and plain stacks, SVS, NDPI
slides    one slide file a plane: TIFF of any kind, Leica SCN (by tiffslide)
images    one plain picture a plane: PNG, JPEG, BMP …
ngff      an existing OME-Zarr image, 0.4 or 0.5
========  ==========================================================================

A plugin adds another through the entry-point group ``slidefusion.readers``.
"""

from __future__ import annotations

import glob
import inspect
import os
from pathlib import Path
from typing import Any

from slidefusion.errors import (
    OptionError,
    ReaderError,
    SlidefusionError,
    UnknownNameError,
    UsageError,
    near_match,
)
from slidefusion.omezarr.store import is_url, location
from slidefusion.readers.base import Reader, Source
from slidefusion.readers.sources import (
    IMAGES,
    kind,
    plane_files,
    public_name,
    refuse_unsupported,
)

__all__ = ["Reader", "Source", "open_reader"]

_FIRST = ("ngff", "tiff", "slides", "images")


def open_reader(source: Any, *, reader: str | None = None, **options: Any) -> Reader:
    """Open ``source`` with the reader that takes it.

    Args:
        source: path, URL, glob or folder; a list of files, one a plane; or a Reader, which is
            returned as it is.
        reader: name of the reader to use; the first that says it takes ``source`` otherwise,
            built-in ones before plugins.
        options: for the reader, such as ``axes="ZCYX"`` or ``series=1`` for TIFF.

    Raises:
        UnknownNameError: nothing is there, or there is no such reader.
        ReaderError: no reader takes it, or the file is damaged.
        StackError: it is not a focus stack.
        OptionError: the reader has no such option.

    >>> open_reader("slide.ome.tif").shape  # doctest: +SKIP
    (3, 11, 30720, 24576)
    """
    from slidefusion import registry

    if isinstance(source, Reader):
        _check_options(type(source).__name__, (), options)
        return source
    given = _paths(source)
    if reader is not None:
        chosen = registry.find(registry.READERS, reader)
        return _open(chosen.name, chosen.load(), given, options)
    installed = registry.plugins(registry.READERS)
    own = sorted(
        (p for p in installed if p.built_in and p.name in _FIRST),
        key=lambda p: _FIRST.index(p.name),
    )
    reasons: list[SlidefusionError] = []
    for plugin in (*own, *(p for p in installed if p not in own)):
        try:
            cls = plugin.load()
            mine = cls.matches(given)
        except SlidefusionError as error:
            # A broken plugin, or a built-in that sees what is wrong: another may still take it.
            reasons.append(error)
            continue
        if mine:
            return _open(plugin.name, cls, given, options)
    raise _refusal(given, reasons, sorted({p.name for p in installed}))


def _paths(source: Any) -> Source:
    """``source`` as one string or a tuple of them; refuses what is not there."""
    if isinstance(source, (str, os.PathLike)):
        path = _expanded(source)
        if not is_url(path) and not Path(path).exists() and not _is_pattern(os.fspath(source)):
            raise UnknownNameError(f"there is no file or folder {path}; nothing was read")
        return path
    if isinstance(source, set | frozenset):
        raise UnknownNameError(
            f"a {type(source).__name__} of paths has no order, and planes need one: give a list"
        )
    try:
        paths = tuple(_expanded(item) for item in source)
    except TypeError:
        raise UnknownNameError(
            f"a source of type {type(source).__name__} is not supported: give a path, URL, glob or "
            "folder, or a list of paths, one file a plane"
        ) from None
    plane_files(paths)  # refuses what is not there, or twice
    return paths


def _expanded(path: str | os.PathLike[str]) -> str:
    """The absolute path, which is the same in the processes of a cluster; a URL as it is."""
    text = os.fspath(path)
    if not text:
        raise UnknownNameError("the path of the source is empty; nothing was read")
    if is_url(text):
        return text
    absolute, relative = location(text), not Path(text).expanduser().is_absolute()
    if relative and _is_pattern(text) and not Path(absolute).exists():
        return str(Path(glob.escape(str(Path.cwd())), text))  # of which no part is a pattern
    return absolute


def _is_pattern(text: str) -> bool:
    return not text.startswith("file://") and glob.has_magic(text)


def _open(name: str, cls: Any, source: Source, options: dict[str, Any]) -> Reader:
    parameters = list(inspect.signature(cls).parameters.values())[1:]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        _check_options(name, [p.name for p in parameters], options)
    opened: Reader = cls(source, **options)
    return opened


def _check_options(name: str, known: Any, options: dict[str, Any]) -> None:
    for key in options:
        if key not in known:
            raise OptionError(
                f"the reader {name} has no option {key!r}{near_match(key, known)} (its options: "
                f"{', '.join(known) or 'none'})"
            )


def _refusal(source: Source, reasons: list[SlidefusionError], names: list[str]) -> SlidefusionError:
    """Why no reader takes ``source``, the most telling reason first."""
    usage = [reason for reason in reasons if isinstance(reason, UsageError)]
    if usage:
        return usage[0]
    shown = source if isinstance(source, str) else source[0]
    what = "unknown"
    if not is_url(shown):
        first = plane_files(source)[0][0]
        if not Path(first).stat().st_size:
            return ReaderError(f"{public_name(first)} is empty: copy it again")
        what = kind(first)
        refuse_unsupported(first, what)
    if reasons:
        return reasons[0]
    return ReaderError(
        f"no reader takes {public_name(shown)} (its content: {what}). Supported are OME-Zarr, TIFF "
        f"stacks and slides (OME-TIFF, SVS, NDPI), and pictures ({', '.join(sorted(IMAGES))}); "
        f"installed readers: {', '.join(names)}"
    )
