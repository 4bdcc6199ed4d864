"""What a source is, before anything opens it: its files, their kind and their provenance."""

from __future__ import annotations

import datetime
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slidefusion.errors import ReaderError, StackError, UnknownNameError
from slidefusion.omezarr.store import is_url
from slidefusion.readers.base import Source
from slidefusion.readers.order import NUMBER, natural_order, one_series, suggested_glob

__all__ = [
    "describe",
    "kind",
    "plane_files",
    "public_name",
    "refuse_unsupported",
    "single",
]

_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (4, b"jP  ", "jp2"),
    (128, b"DICM", "dicom"),
    (0, b"ZISRAWFILE", "czi"),
    (0, b"PK\x03\x04", "zip"),
)
IMAGES = frozenset({"png", "jpeg", "bmp", "gif", "webp", "jp2"})
"""Kinds that hold one picture a file."""
_PICTURES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".j2k", ".jpx", ".jxl", ".bmp", ".gif"),
        *(".webp", ".avif", ".heic", ".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pnm", ".pbm"),
        *(".dcm", ".svs", ".ndpi", ".scn"),
    }
)
"""Suffixes of what may be a plane."""

_EXPORT = "export the focal planes as OME-TIFF (for example with bioformats2raw and raw2ometiff)"
_UNSUPPORTED = {
    ".mrxs": ("MIRAX (MRXS)", "no open reader can give its focal planes", _EXPORT),
    ".vsi": ("Olympus VSI", "its planes lie in a folder of ETS files that is not read", _EXPORT),
    ".czi": ("Zeiss CZI", "it is not read", _EXPORT),
    ".lif": ("Leica LIF", "it is not read", _EXPORT),
    ".nd2": ("Nikon ND2", "it is not read", _EXPORT),
    ".isyntax": ("Philips iSyntax", "it is not read", _EXPORT),
    ".kfb": ("KFBio", "it is not read", _EXPORT),
    ".tmap": ("UNIC TMAP", "it is not read", _EXPORT),
    ".dcm": (
        "DICOM",
        "it is not read",
        "convert it to OME-Zarr (for example with bioformats2raw)",
    ),
    ".zip": ("a zip archive", "it is not read", "unpack it and pass the folder"),
}
_UNSUPPORTED_KINDS = {"dicom": ".dcm", "czi": ".czi", "zip": ".zip"}


def single(source: Source) -> str | None:
    """The one path in ``source``, or None when it lists several."""
    if isinstance(source, str):
        return source
    return source[0] if len(source) == 1 else None


def kind(path: str) -> str:
    """What the first bytes of a local file say it is: ``"tiff"``, ``"png"`` … or ``"unknown"``.

    The name is not trusted: files called .png that hold a JPEG are common. The exceptions are MRXS
    and VSI, whose index files are a JPEG and a TIFF without the planes.

    Raises:
        ReaderError: the file cannot be opened.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".mrxs", ".vsi"):
        return suffix[1:]
    try:
        with Path(path).open("rb") as file:
            head = file.read(160)
    except OSError as error:
        raise ReaderError(f"cannot read {public_name(path)}: {error.strerror or error}") from error
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    return "unknown"


def refuse_unsupported(path: str, what: str | None = None) -> None:
    """Raise ReaderError when ``path`` is of a format known to be out of reach."""
    suffix = _UNSUPPORTED_KINDS.get(what or "", Path(path).suffix.lower())
    if suffix in _UNSUPPORTED and what not in (IMAGES | {"tiff"}):
        name, reason, way_out = _UNSUPPORTED[suffix]
        raise ReaderError(f"{public_name(path)} is {name}: {reason}; {way_out}")


def plane_files(source: Source) -> tuple[list[str], str]:
    """The files of a list, glob or folder that hold one plane each, and how they were ordered.

    Raises:
        UnknownNameError: nothing is there.
        StackError: the files of a glob or folder are not clearly the planes of one stack; no file
            is left out or taken in silently.
    """
    if not isinstance(source, str):
        return _listed([str(path) for path in source])
    if is_url(source):
        raise UnknownNameError(
            f"{public_name(source)} is no OME-Zarr (.zarr) and no TIFF file by its name; of URLs "
            "those are read, and lists of files, one a plane, but no folder or glob"
        )
    path = Path(source)
    if path.is_dir():
        files, shown = _images_in(path), f"folder {source}"
    elif path.is_file():
        return [source], "one file"
    elif path.exists():
        raise UnknownNameError(f"{source} is neither a file nor a folder; nothing was read")
    else:
        # Path.glob cannot take an absolute pattern.
        found = [Path(name) for name in sorted(glob.glob(source))]  # noqa: PTH207
        files, shown = [str(path) for path in found if path.is_file()], f"glob {source}"
        if not files:
            raise UnknownNameError(f"no file matches {source}; nothing was read")
        _refuse_lost(shown, files, found)
    ordered = natural_order(files)
    reason = one_series(ordered)
    if reason is not None:
        raise StackError(
            f"{shown} is not clearly one stack: {reason}. Pass the planes alone: as a list of "
            f"files in their order, or as a glob such as '{suggested_glob(ordered)}'"
        )
    return ordered, "by the numbers in the file names"


def _listed(paths: list[str]) -> tuple[list[str], str]:
    if not paths:
        raise UnknownNameError("the list of planes is empty; nothing was read")
    missing = [path for path in paths if not is_url(path) and not Path(path).is_file()]
    if missing:
        raise UnknownNameError(
            f"{missing[0]} is not a file ({len(missing)} of {len(paths)} planes)"
        )
    repeated = {path for path in paths if paths.count(path) > 1}
    if repeated:
        raise StackError(f"{min(repeated)} is listed more than once; list every plane once")
    ordered = natural_order(paths)
    # A shell and glob.glob sort z10 before z2. Nobody orders planes like that on purpose.
    if paths == sorted(paths) and ordered != paths and one_series(ordered) is None:
        return ordered, "by the numbers in the file names (the list was alphabetical)"
    return paths, "as listed"


def _images_in(folder: Path) -> list[str]:
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    files = [str(p) for p in entries if p.is_file()]
    for path in files:
        what = kind(path)
        if Path(path).suffix.lower() not in (".json", ".xml", ".txt"):
            refuse_unsupported(path, what)
    images = [path for path in files if kind(path) in IMAGES | {"tiff"}]
    if images:
        _refuse_lost(f"folder {folder}", images, entries)
    below = [p.name for p in entries if p.is_dir() and any(q.is_file() for q in p.iterdir())]
    if not images and below:
        raise UnknownNameError(
            f"folder {folder} holds no image, but folders: {', '.join(below[:5])}; pass one of them"
        )
    if not images:
        raise UnknownNameError(f"folder {folder} holds no image file; nothing was read")
    if len(images) == 1 and below:
        raise StackError(
            f"folder {folder} holds one image, {Path(images[0]).name}, and the folders "
            f"{', '.join(below[:5])}: pass the folder of the planes, or the image itself"
        )
    return images


def _refuse_lost(shown: str, taken: Sequence[str], entries: Sequence[Path]) -> None:
    """Refuse what may be a plane and cannot be read: no plane is left out in silence.

    That is what has the suffix of one that was taken, or the name of one with the suffix of another
    kind of picture.
    """
    files = set(taken)
    suffixes = {Path(path).suffix.lower() for path in taken} - {""}
    names = {NUMBER.sub("#", Path(path).stem) for path in taken}
    for path in entries:
        suffix = path.suffix.lower()
        alike = suffix in _PICTURES and NUMBER.sub("#", path.stem) in names
        if str(path) in files or not (suffix in suffixes or alike):
            continue
        if path.is_dir():
            reason = "is a folder"
        elif not path.exists():
            reason = "is a link to what is not there"
        else:
            reason = "is empty" if not path.stat().st_size else "is no picture that can be read"
        raise StackError(
            f"{shown}: {path.name} may be a plane, as its name has it, but {reason}, and no plane "
            "is left out in silence: put it right, or pass the others as a list or glob"
        )


def public_name(path: str) -> str:
    """``path`` as it may be shown and stored: absolute, and a URL without credentials.

    >>> public_name("https://user:secret@host/a.tif?token=1")
    'https://host/a.tif'
    """
    if not is_url(path):
        return str(Path(path).absolute())
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def describe(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Path, size in bytes and time of change of every file, for the provenance."""
    files: list[dict[str, Any]] = []
    for path in paths:
        entry: dict[str, Any] = {"path": public_name(path)}
        if not is_url(path):
            stat = Path(path).stat()
            changed = datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC)
            entry |= {"bytes": stat.st_size, "modified": changed.isoformat(timespec="seconds")}
        files.append(entry)
    return files
