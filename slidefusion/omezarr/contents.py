"""Which images an OME-Zarr holds that are to be checked, and which that it should hold are lost."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

from slidefusion.errors import StackError
from slidefusion.geometry import Window
from slidefusion.omezarr.check import CheckedImage, Damage
from slidefusion.omezarr.members import (
    array_of,
    check_chunk,
    fault_of,
    label_names,
    member,
    metadata_fault,
    metadata_of,
)
from slidefusion.omezarr.metadata import parse_multiscales
from slidefusion.omezarr.record import DIGESTS_KEY, digest_of, digest_of_root, record_of
from slidefusion.stack_shape import check_size

__all__ = ["images_of", "lost_arrays"]


def lost_arrays(group: Any, where: str) -> list[Damage]:
    """Arrays, and groups that they lie in, that the root of an opened OME-Zarr of ours names and
    that are not there, cannot be opened, or say something else than they did."""
    arrays = _named(group)
    above = [str(p) for name in arrays for p in PurePosixPath(name).parents if str(p) != "."]
    digests = group.attrs.get(DIGESTS_KEY)
    digests = digests if isinstance(digests, dict) else {}  # earlier versions wrote none
    found = []
    if "" in digests and digests[""] != digest_of_root(dict(group.attrs)):
        found.append(("zarr.json", "says something else than was written"))
    for name in dict.fromkeys([*above, *arrays]):
        if name in digests:
            fault = metadata_fault(group, name, where, partial(_has_digest, digests[name]))
        else:
            fault = fault_of(group, name, where)
        if fault is None and name == "labels":
            ours = {array.split("/")[1] for array in arrays if array.startswith("labels/")}
            unlisted = ours - set(label_names(group))  # others may have been added to them
            fault = f"does not list {', '.join(sorted(unlisted))}" if unlisted else None
        if fault is not None:
            found.append((name, fault))
    return [Damage(name, 0, None, Window(0, 0, 0, 0), fault) for name, fault in found]


def _has_digest(digest: Any, metadata: Any) -> bool:
    return bool(digest_of(metadata) == digest)


def _named(group: Any) -> list[str]:
    """The arrays that the root of a store of ours names."""
    named = record_of(dict(group.attrs)).get("arrays")
    return list(map(str, named)) if isinstance(named, list) else []


def images_of(group: Any, where: str, lost: Collection[str]) -> list[CheckedImage]:
    """The image at the root of an opened OME-Zarr, its label images, and other images below it.

    What is ``lost`` (see `lost_arrays`) is left out.

    Raises
    ------
    StackError
        It is no OME-Zarr image, or what its metadata say cannot be.
    """
    with metadata_of(where):
        ours = bool(record_of(dict(group.attrs)))
        found: list[CheckedImage] = []
        for name in ["", *_below(group)]:
            if any(f"{name}/".startswith(f"{one}/") for one in lost):
                continue
            inside = member(group, name) if name else group
            attributes = {} if inside is None else dict(inside.attrs)
            if name.startswith("labels/") and record_of(attributes):
                raise StackError(
                    f"{where}/{name} has the metadata of the whole store, and the root has not: "
                    "give each its own, or write the store anew"
                )
            image = parse_multiscales(attributes, f"{where}/{name}".rstrip("/"))
            arrays = tuple(f"{name}/{path}".lstrip("/") for path in image.paths)
            made = _how(name) if ours else None
            found += _without(CheckedImage(arrays, image.axes, made), lost)
    for checked in found:
        for path in checked.arrays:
            array = array_of(group, path, where)
            what = f"the array {path!r} of {where}"
            if len(checked.axes) != array.ndim or not {"y", "x"} <= set(checked.axes) <= set(
                "tczyx"
            ):
                raise StackError(f"{what} has axes {tuple(checked.axes)} and shape {array.shape}")
            sizes = dict(zip(checked.axes, array.shape, strict=True))
            check_size([sizes.get(axis, 1) for axis in "czyx"], what)
            check_chunk(array, what)
    return found


def _how(name: str) -> Literal["mean", "nearest"]:
    """How the levels of an image of ours are made."""
    return "nearest" if name.startswith("labels/") else "mean"


def _below(group: Any) -> list[str]:
    """Images below the root: those whose arrays it names; of a store of others, all there are."""
    named = [name.rpartition("/")[0] for name in _named(group)]
    if not named:
        named = [f"labels/{name}" for name in label_names(group)]
        named += [name for name, other in group.groups() if "ome" in other.attrs]
    # Named twice, it is still one.
    return [name for name in dict.fromkeys(named) if name not in ("", "labels")]


def _without(image: CheckedImage, lost: Collection[str]) -> Iterator[CheckedImage]:
    """Its levels that lie beside each other with none lost between them."""
    arrays = image.arrays
    kept = [level for level, array in enumerate(arrays) if array not in lost]
    starts = [level for level in kept if level - 1 not in kept]
    ends = [level + 1 for level in kept if level + 1 not in kept]
    for start, end in zip(starts, ends, strict=True):
        yield CheckedImage(arrays[start:end], image.axes, image.method, image.first_level + start)
