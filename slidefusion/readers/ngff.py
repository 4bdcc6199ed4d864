"""An existing OME-Zarr image, 0.4 or 0.5, of any chunking and any order of its axes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError, UnknownNameError
from slidefusion.files import is_zarr
from slidefusion.geometry import Size, Window
from slidefusion.omezarr.members import metadata_of
from slidefusion.omezarr.metadata import parse_multiscales
from slidefusion.omezarr.record import record_of
from slidefusion.omezarr.store import is_url, open_array, open_group
from slidefusion.readers.base import Source, new_opening, reopen
from slidefusion.readers.sources import public_name, single
from slidefusion.stack_inputs import as_stack

__all__ = ["NgffReader"]


class NgffReader:
    """Level 0 of an OME-Zarr image.

    Args:
        source: path or URL of the image group, or of a bioformats2raw store with one image.
    """

    name: ClassVar[str] = "ngff"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether ``source`` is one Zarr store."""
        path = single(source)
        if path is None:
            return False
        if is_url(path):
            return ".zarr" in path.lower()
        # Attributes alone are what is left of a damaged one, which opening says.
        return is_zarr(path) or Path(path, ".zattrs").is_file()

    def __init__(self, source: Source):
        path = single(source)
        if path is None:
            raise UnknownNameError(f"the ngff reader opens one store, not {len(source)}")
        self._source = path
        self._opening = new_opening()
        where, attributes = _image_group(path)
        stack: Any = as_stack(where)
        image = parse_multiscales(attributes, where)
        self._zarr: Any = stack.source
        self.shape = stack.shape
        self.dtype = stack.dtype
        self.pixel_size_um = stack.pixel_size_um
        self.origin = stack.origin
        """(y, x) place of the first pixel in µm, or in pixels where their size is not known."""
        self.z_um = stack.z_um
        self.channel_names = stack.channel_names
        self.looks = stack.looks
        """How the omero block shows each channel."""
        self.is_rgb = self.dtype == np.uint8 and stack.rgb
        array = open_array(self._zarr.path, self._zarr.array, "r", self._zarr.stamp)
        chunk = dict(zip(self._zarr.axes, array.chunks, strict=True))
        self.tile = Size(min(chunk["y"], self.shape[2]), min(chunk["x"], self.shape[3]))
        self.planes_at_once: int = min(chunk.get("z", 1), self.shape[1])
        """Planes that one chunk holds: reading one decodes them all."""
        self._last = threading.local()
        self.provenance: dict[str, Any] = {
            "reader": self.name,
            "format": f"OME-Zarr {image.version}",
            "files": [{"path": public_name(where), **stack.identity.get("files", {})}],
            "axes": image.axes,
            "chunks": list(array.chunks),
        }
        if own := record_of(attributes):
            self.provenance["source"] = own

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of plane ``z`` as an array (C, h, w).

        Where a chunk holds several planes, the thread keeps those of the last window, so that
        reading them in turn decodes each chunk once.

        Raises:
            ProcessingError: a chunk cannot be read or decoded.
        """
        if self.planes_at_once == 1:
            plane: npt.NDArray[Any] = self._zarr.read(z, window)
            return plane
        group = z // self.planes_at_once
        if getattr(self._last, "key", None) != (group, window):
            self._last.key = None
            first = group * self.planes_at_once
            planes = slice(first, min(first + self.planes_at_once, self.shape[1]))
            self._last.block = self._zarr.read_planes(planes, window)
            self._last.key = (group, window)
        block: npt.NDArray[Any] = self._last.block
        return block[:, z - group * self.planes_at_once].copy()

    def close(self) -> None:
        """Let go of the planes that are kept; stores stay open for the process."""
        self._last = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (NgffReader, self._source, (), self._opening)


def _image_group(path: str) -> tuple[str, dict[str, Any]]:
    """The group of the image in the store at ``path``, and its attributes."""
    group = open_group(path)
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    if isinstance(ome, Mapping) and ("plate" in ome or "well" in ome):
        raise StackError(f"{path} is a plate of many images; pass the path of one of them")
    if isinstance(ome, Mapping) and "bioformats2raw.layout" in ome:
        with metadata_of(path):
            images = sorted((name for name in group.group_keys() if name.isdigit()), key=int)
        if len(images) != 1:
            raise StackError(
                f"{path} holds {len(images)} images ({', '.join(images[:8])}); pass the path of "
                f"one, such as {path.rstrip('/')}/{images[0] if images else 0}"
            )
        below = f"{path.rstrip('/')}/{images[0]}"
        return below, dict(open_group(below).attrs)
    return path, attributes
