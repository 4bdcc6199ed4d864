"""A focus stack, whatever it came as: lazy, with physical coordinates and provenance."""

from __future__ import annotations

import operator
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.engine import ArraySource, PlaneSource
from slidefusion.errors import StackError, UnknownNameError
from slidefusion.geometry import Window
from slidefusion.omezarr.record import is_complete, record_of, refuse_incomplete
from slidefusion.omezarr.rendering import Look
from slidefusion.omezarr.sources import (
    ZarrSource,
    axes_of,
    record_around,
    root_of,
    shape_of_planes,
    store_identity,
    zarr_source,
)
from slidefusion.source_array import SourceArray
from slidefusion.stack_shape import check_shape, default_names, default_offsets

if TYPE_CHECKING:
    import dask.array
    import xarray as xr
    import zarr

__all__ = ["FocusStack", "open_slide", "open_stack", "plane_indices"]

_AXES = "czyx"

# The stacks of arrays that open_stack made, by name; persisted ones lack it in their graph.
OPENED: weakref.WeakValueDictionary[str, FocusStack] = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class FocusStack:
    """What is known of a stack: where its planes are read from, and what they are in the world."""

    source: PlaneSource | None
    """Planes on demand; None when the stack is a Dask array."""
    lazy: dask.array.Array | None
    """The Dask array (C, Z, Y, X), when it is one."""
    shape: tuple[int, int, int, int]
    """(C, Z, Y, X)."""
    dtype: np.dtype[Any]
    identity: dict[str, Any]
    """JSON-able: what the pixels are, for recognising the same input again."""
    z_um: tuple[float, ...] | None = None
    """Position of each plane in µm."""
    offsets: tuple[int, ...] = ()
    """Focus offset of each plane from the reference plane, …, -1, 0, 1, …"""
    pixel_size_um: tuple[float, float] | None = None
    """(y, x) µm a pixel."""
    origin: tuple[float, float] = (0.0, 0.0)
    """(y, x) place of the first pixel in µm, or in pixels where their size is not known."""
    channel_names: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()
    """How each channel is shown, if its store says so."""
    provenance: dict[str, Any] = field(default_factory=dict)
    store: str | None = None
    """Path or URL of the Zarr store, if it is one."""
    levels: tuple[PlaneSource, ...] = ()
    """The pyramid, level 0 first, if there is one."""

    def places(self, window: Window) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Where the rows and the columns of a window lie, in µm, or in pixels if that is unknown.

        >>> stack.places(Window(0, 2, 1, 3))  # doctest: +SKIP
        (array([0.]), array([0.5 , 0.75, 1.  ]))
        """
        size = self.pixel_size_um or (1.0, 1.0)
        spans = (window.y, window.height), (window.x, window.width)
        y, x = map(_places, self.origin, size, *zip(*spans, strict=True))
        return y, x

    @property
    def inputs(self) -> list[str]:
        """Paths and URLs of the Zarr stores that it is read from, as far as can be seen."""
        from slidefusion.omezarr.found_stores import stores_in

        if isinstance(self.source, ZarrSource) or self.store is None:
            return stores_in(self.source if self.lazy is None else self.lazy.dask)
        return [self.store]

    @property
    def rgb(self) -> bool:
        """Whether the channels are red, green and blue."""
        return tuple(name.lower() for name in self.channel_names) in (
            ("red", "green", "blue"),
            ("r", "g", "b"),
        )


def open_stack(store: str | os.PathLike[str] | zarr.Group | zarr.Array[Any]) -> xr.DataArray:
    """Open an OME-Zarr focus stack, 0.4 or 0.5, lazily.

    Parameters
    ----------
    store
        Path or URL of the image group, or an open Zarr group or array (c, z, y, x).

    Returns
    -------
    xarray.DataArray
        Dims (c, z, y, x), Dask-backed. Coordinates ``z``, ``y`` and ``x`` are in µm where the store
        says so, ``focus_offset`` along z names the planes …, -1, 0, 1, …; ``attrs`` hold
        provenance.

    Raises
    ------
    UnknownNameError
        Nothing is there.
    StackError
        It is no OME-Zarr image, has no z axis, an unsupported dtype, or is incomplete.

    >>> import slidefusion as sf
    >>> stack = sf.open_stack("stack.zarr")  # doctest: +SKIP
    >>> stack.sel(z=0, method="nearest")  # doctest: +SKIP
    """
    import zarr

    if isinstance(store, zarr.Array):
        return _to_dataarray(from_zarr_array(store))
    return _to_dataarray(from_group(store))


def open_slide(store: str | os.PathLike[str]) -> xr.DataArray:
    """Open a fused slide (c, y, x) lazily, with coordinates in µm and provenance in ``attrs``.

    Raises
    ------
    UnknownNameError
        Nothing is there.
    StackError
        It is no OME-Zarr image, has several planes, or is incomplete.
    """
    stack = from_group(store, need_z=False)
    if stack.shape[1] > 1:
        raise StackError(
            f"{store} is a focus stack of {stack.shape[1]} planes, not a slide: "
            "open it with open_stack, or fuse it first"
        )
    return _to_dataarray(stack).isel(z=0, drop=True)


def _places(origin: float, size: float, start: int, count: int) -> npt.NDArray[np.float64]:
    steps = start + np.arange(count, dtype=np.float64)
    whole = round(origin / size)
    if abs(origin / size - whole) < 1e-6:  # to the last bit as in the image it was cut out of
        return (whole + steps) * size
    return origin + steps * size


def from_numpy(array: npt.NDArray[Any]) -> FocusStack:
    import dask.base

    shape = check_shape(array.shape, array.dtype, "the array")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return FocusStack(
        ArraySource(array),
        None,
        shape,
        array.dtype,
        {"array": dask.base.tokenize(array)},
        offsets=default_offsets(shape[1]),
        channel_names=default_names(shape[0]),
        provenance={"source": "a NumPy array in memory"},
    )


def from_zarr_array(array: zarr.Array[Any]) -> FocusStack:
    """A stack of an open Zarr array (c, z, y, x), or with the dimension names it has."""
    axes, root = axes_of(array), root_of(array.store)
    if root is None:  # in memory, say: no other process could open it
        shape = shape_of_planes(axes, array, "the Zarr array in memory")
        given = [axis for axis in "tczyx" if axis in axes]
        data = np.asarray(array[...]).transpose([axes.index(axis) for axis in given])
        return from_numpy(data.reshape(shape))
    around = record_around(root, array.path)
    refuse_incomplete(around, root)
    source = zarr_source(root, array.path, axes, array, whole=is_complete(around) is True)
    return FocusStack(
        source,
        None,
        source.shape,
        source.dtype,
        store_identity(source),
        offsets=default_offsets(source.shape[1]),
        channel_names=default_names(source.shape[0]),
        provenance={"source": f"{root}/{array.path}"},
        store=root,
        levels=(source,),
    )


def from_group(store: str | os.PathLike[str] | zarr.Group, *, need_z: bool = True) -> FocusStack:
    from slidefusion.omezarr.members import array_of, check_chunk
    from slidefusion.omezarr.metadata import parse_multiscales, plane_positions
    from slidefusion.omezarr.store import location, open_group

    if isinstance(store, str | os.PathLike):
        where, prefix = location(store), ""
        group = open_group(where)
    else:
        group = store
        if not hasattr(group, "attrs") or not hasattr(group, "store"):
            raise StackError(
                f"{type(store).__name__} is no store: give its path or URL, or an open Zarr group "
                "or array; arrays in memory go to slidefusion.fuse as they are"
            )
        root = root_of(group.store)
        if root is None:
            raise StackError(
                f"the Zarr group in a {type(group.store).__name__} cannot be opened by tasks: "
                "give its array of level 0, which is read into memory, or write it to a folder"
            )
        where = root
        prefix = f"{group.path}/" if group.path else ""
    attributes = dict(group.attrs)
    mine = record_of(attributes)
    around = mine or record_around(where, prefix.rstrip("/"))  # labels have none of their own
    refuse_incomplete(around, where)
    image = parse_multiscales(attributes, where)
    if need_z and "z" not in image.axes:
        raise StackError(
            f"{where} is an image with axes {tuple(image.axes)}, not a focus stack: it has no z"
        )
    levels = []
    for path in image.paths:
        array = array_of(group, path, where)
        # Every shard of a store written here is there, also one that holds nothing.
        whole = is_complete(around) is True
        levels.append(zarr_source(where, prefix + path, image.axes, array, whole=whole))
        check_chunk(array, f"the array {path!r} of {where}")
    _check_levels(levels, image.paths, where)
    # Planes are looked up by their number, so a level that also has fewer planes is of no use.
    levels = [level for level in levels if level.shape[:2] == levels[0].shape[:2]]
    channels, planes = levels[0].shape[:2]
    names = image.channel_names if len(image.channel_names) == channels else default_names(channels)
    z_um, reference = plane_positions(image, mine, planes, where)
    return FocusStack(
        levels[0],
        None,
        levels[0].shape,
        levels[0].dtype,
        store_identity(levels[0], mine.get("fingerprint")),
        z_um=z_um,
        offsets=tuple(k - reference for k in range(planes)),
        pixel_size_um=image.pixel_size_um,
        origin=image.origin,
        channel_names=names,
        looks=image.looks if len(image.looks) == channels else (),
        provenance=mine or {"source": where},
        store=where,
        levels=tuple(levels),
    )


def _check_levels(levels: Sequence[PlaneSource], paths: Sequence[str], where: str) -> None:
    """Refuse a pyramid that does not begin with its largest level: it would be read as a thumb."""
    areas = [level.shape[2] * level.shape[3] for level in levels]
    if areas[0] < max(areas):
        largest = areas.index(max(areas))
        raise StackError(
            f"the OME-Zarr metadata of {where} names the dataset {paths[0]!r} of "
            f"{levels[0].shape[2:]} px before {paths[largest]!r} of {levels[largest].shape[2:]} "
            "px, and the largest must be the first: put them in order"
        )


def _to_dataarray(stack: FocusStack) -> xr.DataArray:
    import dask.array
    import dask.base
    import xarray as xr

    if stack.source is None:
        data = stack.lazy
    else:
        name = "stack-" + dask.base.tokenize(stack.identity, stack.shape)
        stack = OPENED.setdefault(name, stack)  # however often the store is opened
        assert stack.source is not None
        side = 2048
        data = dask.array.from_array(
            SourceArray(stack.source, stack),
            chunks=(stack.shape[0], 1, side, side),
            name=name,
            meta=np.empty((0,) * 4, stack.dtype),
        )
    z_units = "micrometer" if stack.z_um is not None else "plane"
    z = stack.z_um if stack.z_um is not None else tuple(map(float, range(stack.shape[1])))
    units = "micrometer" if stack.pixel_size_um else "pixel"
    y, x = stack.places(Window(0, 0, *stack.shape[2:]))
    array = xr.DataArray(
        data,
        dims=tuple(_AXES),
        coords={
            "c": list(stack.channel_names),
            "z": ("z", np.asarray(z), {"units": z_units}),
            "focus_offset": ("z", np.asarray(stack.offsets)),
            "y": ("y", y, {"units": units}),
            "x": ("x", x, {"units": units}),
        },
        name=(stack.store or "stack").rstrip("/").rpartition("/")[2],
        attrs={"slidefusion": stack.provenance, "source": stack.store or "memory"},
    )
    array.encoding["slidefusion"] = stack  # the weak dictionary lets go of it with the array
    return array


def plane_indices(stack: FocusStack, planes: Sequence[int] | None) -> tuple[int, ...]:
    """Indices of the planes with these focus offsets, in the order given; None means all.

    Raises
    ------
    UnknownNameError
        An offset that the stack does not have.
    StackError
        No offset, one twice, or something else than whole numbers.
    """
    if planes is None:
        return tuple(range(len(stack.offsets)))
    try:
        if isinstance(planes, bytes | bytearray | set | frozenset):
            raise TypeError("the numbers of letters, or in no order")
        wanted = [operator.index(offset) for offset in planes]
        if any(isinstance(offset, bool | np.bool_) for offset in planes):
            raise TypeError("True and False are no offsets")
    except TypeError:
        raise StackError(
            f"planes={planes!r}: give focus offsets, a list of whole numbers like [0] or [-1, 0, 1]"
        ) from None
    if not wanted or len(set(wanted)) != len(wanted):
        raise StackError(f"planes={wanted}: give at least one focus offset, and none twice")
    missing = [offset for offset in wanted if offset not in stack.offsets]
    if missing:
        raise UnknownNameError(
            f"the stack has no plane at focus offset {', '.join(map(str, missing))}; it has "
            f"{stack.offsets[0]} to {stack.offsets[-1]} (0 is the reference plane)"
        )
    return tuple(stack.offsets.index(offset) for offset in wanted)
