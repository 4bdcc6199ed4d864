"""Arrays in Zarr stores as sources of planes: what they must be, and what they are known by."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError, StackError, UnknownNameError
from slidefusion.files import is_zarr
from slidefusion.geometry import Window
from slidefusion.omezarr.access import reading
from slidefusion.omezarr.identity import layout_in, record_file, run_in
from slidefusion.omezarr.read_shards import read_part
from slidefusion.omezarr.record import record_of
from slidefusion.omezarr.remote import url_exists
from slidefusion.omezarr.store import is_url, open_array, open_group
from slidefusion.stack_shape import check_shape

if TYPE_CHECKING:
    import zarr

__all__ = [
    "ZarrSource",
    "axes_of",
    "check_unchanged",
    "place_of",
    "read_planes",
    "record_around",
    "root_of",
    "shape_of_planes",
    "store_around",
    "store_identity",
    "zarr_source",
]


_FILES = 200_000
"""How many files of a foreign array are looked at, which takes about a second."""


@dataclass(frozen=True)
class ZarrSource:
    """An array in a Zarr store as a source of planes; a few hundred bytes when pickled.

    Axes may come in any order and some may be missing; an axis ``t`` must have length 1.
    """

    path: str
    """Absolute path or URL of the store."""
    array: str
    """Path of the array inside it."""
    axes: str
    """Its axes, one letter each."""
    shape: tuple[int, int, int, int]
    """(C, Z, Y, X)."""
    dtype_name: str
    """``"uint8"``, ``"uint16"`` or ``"float32"``."""
    stamp: str = ""
    """Digest of the array's metadata."""
    whole: bool = False
    """Whether a shard that is missing was lost; otherwise it counts as the fill value."""
    record: tuple[str, str] | None = None
    """The file of the record around, and the run of ours that it names; None if there is none."""
    layout: str = ""
    """Digest of the array's `layout_in`, where something else wrote it and it lies here."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the planes, in native byte order."""
        return np.dtype(self.dtype_name)

    def read(self, z: int, window: Window, /) -> npt.NDArray[Any]:
        """Plane ``z`` inside ``window``: (C, h, w).

        Raises
        ------
        ProcessingError
            Naming store, plane and window, when the data cannot be read.
        """
        what = (
            f"plane {z}, y {window.y}-{window.bottom}, x {window.x}-{window.right} of {self.path}"
        )
        return self._read(slice(z, z + 1), window, what)[:, 0]

    def read_planes(self, planes: slice, window: Window, /) -> npt.NDArray[Any]:
        """Several planes inside ``window``, where one chunk holds them: (C, planes, h, w).

        Raises
        ------
        ProcessingError
            Naming store, planes and window, when the data cannot be read.
        """
        what = f"planes {planes.start}-{planes.stop}, y {window.y}, x {window.x} of {self.path}"
        return self._read(planes, window, what)

    def _read(self, planes: slice, window: Window, what: str) -> npt.NDArray[Any]:
        array = open_array(self.path, self.array, "r", self.stamp)
        with reading(what):
            data = read_planes(
                self.path, self.array, array, self.axes, planes, window, whole=self.whole
            )
            # What is not there is no chunk left out, to be filled, if nothing is there any more.
            if not self.whole and (
                not is_url(self.path) or np.all(data == (array.fill_value or 0))
            ):
                self.check_there(array)
            if self.record and run_in(Path(self.record[0])) != self.record[1]:
                raise ProcessingError(
                    f"cannot read {what} as it was opened: another run has made that store anew; "
                    "open it again"
                )
        return data.astype(self.dtype, copy=False)

    def check_there(self, array: zarr.Array[Any]) -> None:
        """Raise ``FileNotFoundError`` if the opened ``array`` is gone meanwhile."""
        name = _metadata_name(array)
        file = Path(self.path, self.array, name)
        if not (url_exists(array.store_path / name) if is_url(self.path) else file.exists()):
            raise FileNotFoundError(
                f"{name} of it is gone: it was deleted, moved or unmounted while it was being read"
            )
        if self.layout and _digest(layout_in(file)) != self.layout:
            raise ProcessingError(
                f"{self.path} was made anew since it was opened, and cannot be read as it was: "
                "open it again"
            )


def _metadata_name(array: zarr.Array[Any]) -> str:
    return "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_planes(
    where: str,
    name: str,
    array: zarr.Array[Any],
    axes: str,
    planes: slice,
    window: Window,
    *,
    whole: bool = False,
) -> npt.NDArray[Any]:
    """``planes`` inside ``window`` of an array whose axes are these letters: (C, planes, h, w).

    What the array lacks of c and z has length 1, and so must t. The result is a view of what was
    read, whatever the order of the axes. ``where``, ``name``, ``whole`` and what is raised are as
    in `read_part`.
    """
    rows, columns = window.slices
    # Ranges only: for a number as an index zarrs hands what crosses shards to zarr-python, which
    # takes up to 2.5 times as long, and reads an empty file as zeros.
    ranges = {"t": slice(0, 1), "c": slice(None), "z": planes, "y": rows, "x": columns}
    index = tuple(ranges[axis] for axis in axes)
    data = read_part(where, name, array, index, whole=whole)
    data = data.transpose([axes.index(axis) for axis in "tczyx" if axis in axes])
    if "t" in axes:
        data = data[0]
    return data[tuple(slice(None) if axis in axes else np.newaxis for axis in "czyx")]


def place_of(store: Any) -> str | None:
    """Path or URL of a Zarr store; None of one that has none, as in memory."""
    from zarr.storage import FsspecStore, LocalStore, ZipStore

    if isinstance(store, LocalStore):
        return str(store.root)
    if isinstance(store, ZipStore):
        return str(store.path)
    if not isinstance(store, FsspecStore):
        return None
    # zarr wraps file systems that are not asynchronous, which hides what they are.
    filesystem = getattr(store.fs, "sync_fs", store.fs)
    local = "file" in filesystem.protocol
    return store.path if local else str(filesystem.unstrip_protocol(store.path))


def root_of(store: Any) -> str | None:
    """Path or URL that another process can open the Zarr store by, or None."""
    place = place_of(store)
    only_here = place is None or place.startswith("memory://") or type(store).__name__ == "ZipStore"
    return None if only_here else place


def store_around(place: str, inside: str) -> str:
    """The store that the array or group ``inside`` the store at ``place`` belongs to.

    A place may be a plain folder, or a bucket, of many stores. The store is the outermost Zarr
    group around; of a URL, which is not asked, what has a name that ends in ``.zarr``.

    >>> store_around("s3://bucket", "slides/a.zarr/0"), store_around("s3://bucket/a.zarr", "0")
    ('s3://bucket/slides/a.zarr', 's3://bucket/a.zarr')
    """
    whole = f"{place.rstrip('/')}/{inside}" if inside else place
    if is_url(place):
        parts = whole.split("/")
        named = (k for k, part in enumerate(parts) if part.endswith(".zarr"))
        return "/".join(parts[: next(named, len(parts)) + 1])
    found = Path(whole)
    for above in Path(whole).parents:
        if is_zarr(above):
            found = above
        elif len(above.parts) < len(Path(place).parts):
            break
    return str(found)


def record_around(place: str, inside: str = "") -> dict[str, Any]:
    """The record (:mod:`slidefusion.omezarr.record`) of the innermost store of ours that the array
    or group ``inside`` the store at ``place`` is a part of; empty when there is none."""
    root = store_around(place, inside)
    whole = f"{place.rstrip('/')}/{inside}" if inside else place
    parts = [part for part in whole.removeprefix(root).split("/") if part]
    for count in reversed(range(len(parts))):
        if parts[:count][-1:] == ["labels"]:  # a group that only lists
            continue
        with contextlib.suppress(StackError, UnknownNameError):  # there is no group
            found = record_of(dict(open_group("/".join([root, *parts[:count]])).attrs))
            if found:
                return found
    return {}


def axes_of(array: zarr.Array[Any]) -> tuple[str, ...]:
    """Names of the axes of an array: those it gives, or the last of c, z, y, x."""
    names = getattr(array.metadata, "dimension_names", None)
    if names and all(names):
        return _small_letters(names, array.ndim) or tuple(map(str, names))
    named = array.attrs.get("_ARRAY_DIMENSIONS")  # as xarray writes Zarr v2; anything, elsewhere
    if isinstance(named, list):
        letters = _small_letters(named, array.ndim)
        if letters:
            return letters
    return tuple("czyx"[-array.ndim :]) if array.ndim <= 4 else ("unnamed",) * array.ndim


def _small_letters(names: Sequence[Any], ndim: int) -> tuple[str, ...] | None:
    """Names of axes that may be in capitals, as letters; None if they are others."""
    letters = tuple(str(name).lower() for name in names)
    fitting = len(set(letters)) == ndim and set("yx") <= set(letters) <= set("tczyx")
    return letters if fitting else None


def shape_of_planes(
    axes: Sequence[str], array: zarr.Array[Any], what: str
) -> tuple[int, int, int, int]:
    """(C, Z, Y, X) of an array with these axes.

    Raises :class:`~slidefusion.errors.StackError` when it is no focus stack.
    """
    known = set("yx") <= set(axes) <= set("tczyx")
    if not known or not len(axes) == len(set(axes)) == array.ndim:
        raise StackError(
            f"{what} has axes {tuple(axes)} and shape {array.shape}; a focus stack has "
            "(c, z, y, x), of which c and z may be missing: name its axes so (dimension_names=), "
            "or give an array of such axes"
        )
    sizes = dict(zip(axes, array.shape, strict=True))
    if sizes.get("t", 1) != 1:
        raise StackError(
            f"{what} has {sizes['t']} time points; fuse one at a time: give the array of one"
        )
    return check_shape([sizes.get(axis, 1) for axis in "czyx"], array.dtype, what)


def zarr_source(
    where: str, name: str, axes: Sequence[str], array: zarr.Array[Any], *, whole: bool = False
) -> ZarrSource:
    """Planes out of the array ``name`` of the store at ``where``, whose axes have these letters.

    Of a ``whole`` array a shard that is missing was lost. Raises
    :class:`~slidefusion.errors.StackError` when it is no focus stack.
    """
    shape = shape_of_planes(axes, array, f"the array {where}/{name}".rstrip("/"))
    metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
    stamp = _digest(metadata)
    dtype = np.dtype(array.dtype).newbyteorder("=").name
    record, layout = None, ""
    if not is_url(where):
        record = record_file(where, name) if whole else None
        layout = "" if whole else _digest(layout_in(Path(where, name, _metadata_name(array))))
    return ZarrSource(where, name, "".join(axes), shape, dtype, stamp, whole, record, layout)


def store_identity(source: ZarrSource, run: Any = None) -> dict[str, Any]:
    """What a run is recognised by that read this array.

    ``run`` is the fingerprint of the run of this package that wrote it. Of an array that something
    else wrote, and that lies here, its files are looked at: how many, how large, when changed. In
    an object store that would take a listing of all, so only changed metadata is noticed.
    """
    known = {"store": source.path, "array": source.array, "metadata": source.stamp, "run": run}
    if run is None and not is_url(source.path):
        known["files"] = _files_below(str(Path(source.path, source.array)))
    return known


def check_unchanged(source: Any, known: dict[str, Any]) -> None:
    """Raise ``ProcessingError`` if an array that something else wrote is not what it was.

    ``known`` is its :func:`store_identity` from before. In an object store it is only looked at
    whether it is still there.
    """
    if not isinstance(source, ZarrSource) or source.whole:
        return
    with reading(f"the array {source.path}/{source.array}".rstrip("/")):
        source.check_there(open_array(source.path, source.array, "r", source.stamp))
    if known.get("files") != store_identity(source, known.get("run")).get("files"):
        raise ProcessingError(
            f"{source.path} was changed while it was read, so that what was made of it is of no "
            "one state: leave it alone and run again; if it stays as it is now, with "
            "overwrite=True (--overwrite)"
        )


def _files_below(folder: str) -> dict[str, Any]:
    """Number and bytes of the files below a folder, and a digest of their sizes and times."""
    count = size = 0
    changes = hashlib.sha256()
    left = [folder]
    looked_at = 0
    while left and looked_at < _FILES:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in sorted(entries, key=attrgetter("name")):  # the same order in every call
                looked_at += 1
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif looked_at < _FILES and not entry.name.startswith("."):
                    count += 1
                    changes.update(os.fsencode(entry.name))
                    with contextlib.suppress(OSError):  # a link to what is not there
                        stat = entry.stat()
                        size += stat.st_size
                        changes.update(f" {stat.st_size} {stat.st_mtime_ns} ".encode())
    return {"count": count, "bytes": size, "changes": changes.hexdigest()[:16]}
