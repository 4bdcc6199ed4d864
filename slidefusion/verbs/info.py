"""What an OME-Zarr is: sizes, planes, layout, provenance, and whether it is whole."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slidefusion.errors import StackError
from slidefusion.omezarr.journal import Journal
from slidefusion.omezarr.members import array_of, label_names, member, metadata_of
from slidefusion.omezarr.metadata import Multiscale, parse_multiscales, plane_positions
from slidefusion.omezarr.record import is_complete, record_of
from slidefusion.omezarr.store import is_url, location, open_group

if TYPE_CHECKING:
    import zarr

__all__ = ["describe"]


def describe(store: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe the OME-Zarr image, 0.4 or 0.5, at a path or URL; JSON-able.

    An output that an interrupted run left is described too: ``complete`` is False, and ``regions``
    says how many of how many are ``finished``. Keys: ``store``, ``kind`` (stack, slide or image),
    ``complete``, ``regions``, ``ngff_version``, ``zarr_format``, ``axes``, ``shape``, ``dtype``,
    ``channels``, ``pixel_size_um`` (y, x), ``planes`` (``focus_offset``, ``z_um``; empty without a
    z axis), ``levels`` (``path``, ``shape``, ``chunk``, ``shard``), ``labels``, ``disk_bytes``,
    ``disk_files`` (None for a URL), ``provenance``.

    Raises
    ------
    UnknownNameError
        Nothing is there.
    StackError
        It is no OME-Zarr image, or a damaged one.
    ProcessingError
        The store does not answer.
    """
    where = location(store)
    group = open_group(where)
    with metadata_of(where):
        return _describe(group, where)


def _describe(group: zarr.Group, where: str) -> dict[str, Any]:
    attributes = dict(group.attrs)
    provenance = record_of(attributes)
    complete = is_complete(provenance) is not False
    provenance.pop("complete", None)
    progress = None if complete else Journal.stored_progress(where)
    if complete:
        image: Multiscale | None = parse_multiscales(attributes, where)
        assert image is not None
        axes, paths = image.axes, image.paths
    else:  # no OME metadata yet
        image = None
        # Asked for one by one: Zarr warns when a listing meets the progress file.
        paths = tuple(itertools.takewhile(group.__contains__, map(str, itertools.count())))
        axes = _axes(group, paths, where)
    levels = [_level(group, path, where) for path in paths]
    shape = levels[0]["shape"]
    disk_bytes, disk_files = _disk(where)
    return {
        "store": where,
        "kind": provenance.get("kind") or ("stack" if "z" in axes else "image"),
        "complete": complete,
        "regions": None if progress is None else {"finished": progress[0], "total": progress[1]},
        "ngff_version": None if image is None else image.version,
        "zarr_format": group.metadata.zarr_format,
        "axes": list(axes),
        "shape": shape,
        "dtype": levels[0]["dtype"],
        "channels": [] if image is None else list(image.channel_names),
        "pixel_size_um": None
        if image is None or image.pixel_size_um is None
        else list(image.pixel_size_um),
        "planes": _planes(axes, shape, image, provenance, where),
        "levels": levels,
        "labels": _labels(group, where),
        "disk_bytes": disk_bytes,
        "disk_files": disk_files,
        "provenance": provenance,
    }


def _axes(group: zarr.Group, paths: tuple[str, ...], where: str) -> str:
    if not paths:
        raise StackError(f"{where} is an output that was interrupted before anything was written")
    names = getattr(array_of(group, paths[0], where).metadata, "dimension_names", None) or ()
    return "".join(map(str, names))


def _level(group: zarr.Group, path: str, where: str) -> dict[str, Any]:
    array = array_of(group, path, where)
    return {
        "path": path,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "chunk": list(array.chunks),
        "shard": None if array.shards is None else list(array.shards),
    }


def _planes(
    axes: str, shape: list[int], image: Multiscale | None, own: dict[str, Any], where: str
) -> list[dict[str, Any]]:
    if "z" not in axes:
        return []
    at = axes.index("z")
    count = shape[at]
    z_um, reference = plane_positions(image, own, count, where)
    return [
        {"focus_offset": k - reference, "z_um": None if z_um is None else round(float(z_um[k]), 9)}
        for k in range(count)
    ]


def _labels(group: zarr.Group, where: str) -> list[dict[str, Any]]:
    """The label images of a slide (``labels/depth``), with their levels."""
    import zarr

    found = []
    for name in label_names(group):
        label = member(group, f"labels/{name}")
        if not isinstance(label, zarr.Group):
            continue
        attributes = dict(label.attrs)
        inside = f"{where}/labels/{name}"
        if "ome" in attributes or "multiscales" in attributes:
            image = parse_multiscales(attributes, inside)
            levels = [_level(label, path, inside) for path in image.paths]
            found.append({"name": name, "levels": levels})
    return found


def _disk(where: str) -> tuple[int | None, int | None]:
    """Bytes and files of a local store."""
    if is_url(where):
        return None, None
    size = count = 0
    for folder, _, files in os.walk(where):
        for name in files:
            size += (Path(folder) / name).lstat().st_size
            count += 1
    return size, count
