"""The ``Reader`` protocol: one slide source as planes of pixels, and nothing else.

A reader inherits from nothing here. It is found through the entry-point group
``slidefusion.readers``, reads any rectangle of any plane, and knows what the file says of itself.
What the file does not say stays ``None``: a reader never invents a pixel size.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError
from slidefusion.geometry import Size, Window
from slidefusion.value_range import STACK_DTYPES, is_stack_dtype

__all__ = ["Reader", "Source", "check_dtype", "new_opening", "reopen"]

Source = str | Sequence[str]
"""A path, URL, glob or folder, or the planes one by one."""


@runtime_checkable
class Reader(Protocol):
    """One focus stack, opened. Reading is thread-safe, and a reader can be pickled.

    Opening raises :class:`~slidefusion.errors.UnknownNameError` when nothing is there,
    :class:`~slidefusion.errors.ReaderError` when a file holds what the reader cannot give in full,
    and :class:`~slidefusion.errors.StackError` when what it gives is not a focus stack.

    Its class also has ``matches(source) -> bool``: whether it is the one to open ``source``,
    decided from names and first bytes. :func:`slidefusion.readers.open_reader` asks it.

    It may also have: ``origin``, (y, x) of the first pixel in µm, or in pixels where their size is
    not known; ``looks``, a mapping for each channel of how it is shown (``"color"`` as RRGGBB,
    ``"window"``, ``"active"``, ``"inverted"``, as in OME-NGFF's ``omero``); ``gap``, a text that
    says where planes are missing in a numbered series; ``planes_at_once``, how many planes are
    decoded together.
    """

    name: ClassVar[str]
    """The name it is registered under."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, uint16 or float32, in native byte order."""

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """(y, x) µm a pixel, or None when the source does not say."""

    @property
    def z_um(self) -> tuple[float, ...] | None:
        """Position of every plane in µm, ascending, or None when the source does not say."""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """One name a channel."""

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are red, green and blue of one colour picture."""

    @property
    def tile(self) -> Size:
        """The unit in px that is read at once: a tile, some rows of the full width, the whole
        plane, or (1, 1) where any rectangle can be read alone."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Where it comes from, JSON-able, without credentials."""

    def read(self, z: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of plane ``z`` as an array (C, h, w).

        Raises:
            ProcessingError: the bytes there cannot be read or decoded.
        """

    def close(self) -> None:
        """Close the files; a closed reader must not be read from."""


def check_dtype(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    """``dtype`` in native byte order.

    Raises:
        StackError: it is not one that a focus stack may have.
    """
    native = np.dtype(dtype).newbyteorder("=")
    if not is_stack_dtype(native):
        raise StackError(
            f"{what} holds {native.name} values; a focus stack holds {', '.join(STACK_DTYPES)}: "
            "convert the values first"
        )
    return native


@lru_cache(maxsize=16)
def _opened(
    cls: Callable[..., Reader], source: Source, options: tuple[tuple[str, Any], ...], opening: str
) -> Reader:
    return cls(source, **dict(options))


def new_opening() -> str:
    """A name for one opening of a source: what a reader tells its copies apart by.

    A source that was replaced is opened anew by whoever reads it, and the copies of that reader in
    the processes of a cluster must not be those of the old one.
    """
    return uuid.uuid4().hex


def reopen(
    cls: Callable[..., Reader],
    source: Source,
    options: tuple[tuple[str, Any], ...],
    opening: str,
) -> Reader:
    """What unpickling a reader calls: opens the source once a process, not once a task.

    ``opening`` is that of the reader that was pickled (see `new_opening`).
    """
    try:
        return _opened(cls, source, options, opening)
    except TypeError:  # an option cannot be hashed, such as storage options
        return cls(source, **dict(options))
