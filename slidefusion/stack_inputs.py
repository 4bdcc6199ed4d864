"""Everything that ``fuse`` accepts as a stack, made into a ``FocusStack``."""

from __future__ import annotations

import json
import os
import reprlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.stack import (
    OPENED,
    FocusStack,
    from_group,
    from_numpy,
    from_zarr_array,
)
from slidefusion.stack_shape import check_shape, default_names, default_offsets
from slidefusion.units import micrometres

if TYPE_CHECKING:
    import dask.array
    import xarray as xr

__all__ = ["as_stack"]

_AXES = "czyx"


def as_stack(stack: Any) -> FocusStack:
    """Make a ``FocusStack`` of whatever ``slidefusion.fuse`` accepts.

    ``stack`` is a path or URL, a Zarr group or array, a DataArray, a Dask or NumPy array (unnamed
    axes are c, z, y, x), or an object with ``shape``, ``dtype`` and ``read(z, window)``.

    Raises
    ------
    StackError
        When it is none of these, has other axes, or a dtype that is not supported.
    """
    if isinstance(stack, str | os.PathLike):
        return from_group(stack)
    if isinstance(stack, np.ndarray):
        return from_numpy(_unmasked(stack))
    kind = type(stack).__module__.partition(".")[0]
    if kind == "xarray":
        return _from_dataarray(stack)
    if kind == "dask":
        return _from_dask(stack)
    if kind == "zarr":
        import zarr

        return from_zarr_array(stack) if isinstance(stack, zarr.Array) else from_group(stack)
    if hasattr(stack, "read") and hasattr(stack, "shape"):
        return _from_source(stack)
    raise StackError(
        f"{type(stack).__name__} is no focus stack; give a path or URL, a Zarr group or array, "
        "an xarray.DataArray, or a Dask or NumPy array with axes (c, z, y, x)"
    )


def _unmasked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if np.ma.is_masked(array):
        raise StackError(
            f"{int(np.ma.getmaskarray(array).sum())} values of the array are masked, and fusing "
            "needs all: fill them first, for example with .filled(0)"
        )
    unmasked: npt.NDArray[Any] = array.data
    return unmasked


def _known_as(source: Any) -> Any:
    """What a source without provenance is known by, whatever process it is made in."""
    import dask.base

    name = type(source).__name__
    try:
        return {name: dask.base.tokenize(source, ensure_deterministic=True)}
    except Exception:  # of a script's own class, or one with a lock, nothing tells what it holds
        return name


def _from_source(source: Any) -> FocusStack:
    shape = check_shape(source.shape, source.dtype, f"the source {type(source).__name__}")
    provenance = _provenance(
        getattr(source, "provenance", {}),
        f"the provenance of the source {type(source).__name__}",
        "leave the attribute away",
    )
    reference = getattr(source, "reference", shape[1] // 2)
    return FocusStack(
        source,
        None,
        shape,
        np.dtype(source.dtype),
        {"source": provenance or _known_as(source)},
        z_um=getattr(source, "z_um", None),
        offsets=tuple(z - reference for z in range(shape[1])),
        pixel_size_um=getattr(source, "pixel_size_um", None),
        origin=tuple(getattr(source, "origin", (0.0, 0.0))),
        channel_names=tuple(getattr(source, "channel_names", default_names(shape[0]))),
        looks=tuple(getattr(source, "looks", ())),
        provenance=provenance,
    )


def _provenance(given: Any, what: str, or_else: str) -> dict[str, Any]:
    """What is known of where a stack comes from; it is written into the slide as JSON."""
    try:
        known = dict(given)
        json.dumps(known)
    except (TypeError, ValueError) as error:
        raise StackError(
            f"{what} is {reprlib.repr(given)}, which cannot be written into a slide ({error}); it "
            f"is a mapping of texts, numbers, lists and mappings: give one, or {or_else}"
        ) from error
    return known


def _from_dask(array: dask.array.Array) -> FocusStack:
    import dask.array

    if not isinstance(array, dask.array.Array):
        raise StackError(f"a Dask {type(array).__name__} is no focus stack; give a Dask array")
    # One that open_stack made, and that comes back unchanged, is read from its store directly.
    name = f"original-{array.name}"
    layers = getattr(array.dask, "layers", {})
    opened = getattr(layers.get(name, {}).get(name), "stack", OPENED.get(array.name))
    if isinstance(opened, FocusStack):
        return opened
    if any(np.isnan(length) for length in array.shape):
        raise StackError(
            f"the Dask array has unknown sizes {array.shape}; call its compute_chunk_sizes() first"
        )
    shape = check_shape(array.shape, array.dtype, "the Dask array")
    if isinstance(array._meta, np.ma.MaskedArray):
        raise StackError(
            "the Dask array has masks, which would be lost: fill them first, for example with "
            "dask.array.ma.filled(array, 0)"
        )
    return FocusStack(
        None,
        array,
        shape,
        array.dtype,
        {"dask": array.name},
        offsets=default_offsets(shape[1]),
        channel_names=default_names(shape[0]),
        provenance={"source": "a Dask array"},
    )


def _from_dataarray(array: xr.DataArray) -> FocusStack:
    import xarray as xr

    if not isinstance(array, xr.DataArray):
        raise StackError(
            f"an xarray {type(array).__name__} is no focus stack; give one of its DataArrays"
        )
    array = _with_small_letters(array)
    if array.sizes.get("t") == 1:
        array = array.isel(t=0, drop=True)
    dims = set(map(str, array.dims))
    if "t" in dims:
        raise StackError(
            f"the DataArray has {array.sizes['t']} time points; fuse one at a time, such as "
            ".isel(t=0)"
        )
    if not {"z", "y", "x"} <= dims or not dims <= set(_AXES):
        raise StackError(
            f"the DataArray has dims {tuple(map(str, array.dims))}; a focus stack has (c, z, y, x)"
            ", of which c may be missing: rename them with .rename(...)"
        )
    if "c" not in dims:
        array = array.expand_dims("c")
    array = array.transpose(*_AXES)
    data = array.data
    stack = (
        _from_dask(data) if type(data).__module__.startswith("dask") else from_numpy(array.values)
    )
    offsets = stack.offsets
    if "focus_offset" in array.coords:
        offsets = _offsets(array)
    names = (
        tuple(map(str, array.coords["c"].values)) if "c" in array.coords else stack.channel_names
    )
    known = stack.pixel_size_um or (None, None)
    y, x = (_spacing(array, axis, size) for axis, size in zip("yx", known, strict=True))
    z = _in_um(array, "z")
    if z is not None and not np.isfinite(z).all():
        raise StackError(
            f"the DataArray's coordinate 'z' is {z.tolist()}: give each plane a position, or drop "
            "the coordinate with .drop_vars('z')"
        )
    return replace(
        stack,
        z_um=None if z is None else tuple(z.tolist()),
        offsets=offsets,
        pixel_size_um=(y, x) if y and x else None,
        origin=_origin(array) if y and x else stack.origin,
        channel_names=names,
        provenance=_provenance(
            array.attrs.get("slidefusion", {}),
            "the DataArray's attrs['slidefusion']",
            "del array.attrs['slidefusion']",
        )
        or stack.provenance,
    )


def _with_small_letters(array: xr.DataArray) -> xr.DataArray:
    """With dims named c, z, y, x where they are C, Z, Y, X, as other readers of slides have it."""
    names = {dim: str(dim).lower() for dim in array.dims}
    if len(set(names.values())) < array.ndim:
        return array
    taken = {*array.dims, *array.coords}
    return array.rename({dim: name for dim, name in names.items() if name not in taken})


def _offsets(array: xr.DataArray) -> tuple[int, ...]:
    """The focus offsets that its coordinate gives the planes."""
    values = np.atleast_1d(array.coords["focus_offset"].values)
    whole = values.dtype.kind in "iuf" and bool((values == np.round(values)).all())
    if not whole or values.shape != (array.sizes["z"],) or len(set(values)) < len(values):
        raise StackError(
            f"the DataArray's coordinate 'focus_offset' is {values.tolist()} for "
            f"{array.sizes['z']} planes: give each plane a whole number of its own, 0 the "
            "reference plane, or drop the coordinate with .drop_vars('focus_offset')"
        )
    return tuple(map(int, values))


def _spacing(array: xr.DataArray, axis: str, known: float | None) -> float | None:
    """µm between the pixels of an axis; ``known`` of a single one; None if nothing says so."""
    values = _in_um(array, axis)
    if values is None:
        return None
    if len(values) < 2:
        return known
    spacing = float(values[-1] - values[0]) / (len(values) - 1)
    if not spacing > 0 or not np.abs(np.diff(values) - spacing).max() <= 0.01 * spacing:
        raise StackError(
            f"the DataArray's coordinate {axis!r} does not rise in equal steps (it was flipped, or "
            "pixels were left out): give one whose pixels lie side by side in their order, or drop "
            "the coordinate with .drop_vars(...)"
        )
    return float(f"{spacing:.12g}")  # differences of rounded numbers are not to the last bit


def _origin(array: xr.DataArray) -> tuple[float, float]:
    """Where the first pixel lies, of an array with pixels."""
    y, x = (_in_um(array, axis) for axis in "yx")
    assert y is not None and x is not None
    return float(y[0]), float(x[0])


def _in_um(array: xr.DataArray, axis: str) -> npt.NDArray[np.float64] | None:
    """A coordinate in µm; None without one, or when its ``units`` are no length."""
    if axis not in array.coords:
        return None
    unit = micrometres(str(array.coords[axis].attrs.get("units", "")))
    values = np.atleast_1d(array.coords[axis].values)
    if unit is None or values.dtype.kind not in "iuf":
        return None
    return values.astype(np.float64) * unit
