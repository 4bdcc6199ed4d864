"""What a fuser declares, checked before anything is cut for it."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

from slidefusion.errors import PluginError, SlidefusionError
from slidefusion.fuser import Footprint, Fuser, Overview, PlaneRange
from slidefusion.geometry import Size

__all__ = ["check_declarations", "declared_bytes", "missing_attributes", "options_of", "prepared"]

_KINDS = {"name": str, "planes": PlaneRange, "footprint": Footprint, "device": str}
_METHODS = ("working_bytes", "__call__")


def missing_attributes(thing: Any) -> list[str]:
    """What of the protocol ``thing`` lacks; nothing of a fuser.

    >>> missing_attributes(3)
    ['name', 'planes', 'footprint', 'device', 'working_bytes', '__call__']
    """
    return [name for name in (*_KINDS, *_METHODS) if not _has(thing, name)]


def _has(thing: Any, name: str) -> bool:
    try:
        return hasattr(thing, name)
    except Exception:  # it is there, and fails: `check_declarations` says how
        return True


def check_declarations(fuser: Fuser, what: str) -> Fuser:
    """``fuser`` again, if what it declares is of the kinds that the protocol says.

    ``what`` names it in messages. Raises :class:`~slidefusion.errors.PluginError` naming the first
    attribute that is not.
    """
    for name, kind in _KINDS.items():
        try:
            value = getattr(fuser, name)
        except SlidefusionError:
            raise
        except Exception as error:
            raise PluginError(
                f"{what}: its {name} cannot be told: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(value, kind):
            raise PluginError(
                f"{what} declares {name}={value!r}: it must be a {kind.__name__} "
                "(see slidefusion.fuser.Fuser)"
            )
    for name in _METHODS:
        if not callable(getattr(fuser, name, None)):
            raise PluginError(f"{what}: its {name} is no method (see slidefusion.fuser.Fuser)")
    return fuser


def options_of(fuser: Fuser) -> dict[str, Any]:
    """The options that the fuser was made with: its fields, or what it calls its ``options``.

    >>> from slidefusion.registry import get_fuser
    >>> options_of(get_fuser("lpp", levels=4))["levels"]
    4
    """
    if dataclasses.is_dataclass(fuser) and not isinstance(fuser, type):
        return dataclasses.asdict(fuser)
    return dict(getattr(fuser, "options", {}))


def declared_bytes(fuser: Fuser, planes: int, channels: int, window: Size) -> int:
    """What the fuser says that a call needs for such a window, in whole bytes.

    Raises :class:`~slidefusion.errors.PluginError` when it is no number from 0 on.
    """
    try:
        found: Any = fuser.working_bytes(planes, channels, window.height, window.width)
    except SlidefusionError:
        raise
    except Exception as error:
        raise PluginError(
            f"working_bytes({planes}, {channels}, {window.height}, {window.width}) of fuser "
            f"{fuser.name!r} failed: {type(error).__name__}: {error}"
        ) from error
    number = isinstance(found, numbers.Real) and not isinstance(found, bool)
    if not number or not 0 <= found < math.inf:
        raise PluginError(
            f"working_bytes({planes}, {channels}, {window.height}, {window.width}) of fuser "
            f"{fuser.name!r} gave {found!r}: it must be the number of bytes that a call needs, 0 "
            "or more"
        )
    whole: int = math.ceil(found)
    return whole


def prepared(fuser: Fuser, overview: Overview) -> Fuser:
    """The fuser with what it learned of the slide, if it is one that looks at it.

    Raises
    ------
    PluginError
        Its ``prepare`` fails or gives no fuser.
    """
    prepare = getattr(fuser, "prepare", None)
    if prepare is None:
        return fuser
    what = f"prepare of fuser {fuser.name!r}"
    try:
        made = prepare(overview)
    except (SlidefusionError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(f"{what} failed: {type(error).__name__}: {error}") from error
    if missing_attributes(made):
        raise PluginError(
            f"{what} returned {made!r}: it must return a fuser, itself or a copy "
            "(dataclasses.replace) that holds what it learned"
        )
    return check_declarations(made, f"what {what} returned")
