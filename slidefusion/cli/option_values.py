"""``-O levels=4``: options of a fuser or reader on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from slidefusion.errors import OptionError
from slidefusion.option_text import free_value, refuse_arguments, typed_value

__all__ = [
    "free_value",
    "fuser_options",
    "pairs",
    "passed_on",
    "refuse_arguments",
    "region_side",
    "typed_value",
]


def pairs(given: Iterable[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dictionary; dashes in a name count as underscores.

    Raises :class:`OptionError` for a text without ``=``, or a name given twice.

    >>> pairs(["levels=4", "low-pass=mean"])
    {'levels': '4', 'low_pass': 'mean'}
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not separator or not name:
            raise OptionError(f"-O {text!r}: give NAME=VALUE, for example -O levels=4")
        if name in found:
            raise OptionError(f"-O {name} is given twice: {found[name]!r} and {value!r}")
        found[name] = value.strip()
    return found


def fuser_options(fuser: str, given: list[str] | None) -> dict[str, Any]:
    """The ``-O`` options of a fuser as values of the types that it declares.

    Raises :class:`~slidefusion.errors.OptionError` naming a near match for a misspelt one.
    """
    texts = pairs(given)
    if not texts:
        return {}
    from slidefusion.registry import fuser_options as declared_by
    from slidefusion.registry import get_fuser

    infos = {info.name: info for info in declared_by(fuser)}
    if not infos:  # the fuser checks its own
        return {name: free_value(text) for name, text in texts.items()}
    for name, text in texts.items():
        if name not in infos:
            get_fuser(fuser, **{name: text})  # raises, with the near match
    return {
        name: typed_value(f"fuser {fuser!r}", name, text, infos[name].type)
        for name, text in texts.items()
    }


def passed_on(
    verb: Callable[..., Any], fuser: str, given: list[str] | None, device: str
) -> dict[str, Any]:
    """The ``-O`` options of a fuser that ``verb`` makes, and its argument ``device``.

    Where the fuser computes may be given as an option of it, too.

    Raises :class:`OptionError` for what is given twice, or is another argument of the verb.
    """
    options = fuser_options(fuser, given)
    if "device" in options and device != "auto":
        raise OptionError(f"--device {device} and -O device={options['device']}: give one of them")
    found = {"device": options.pop("device", device)}
    refuse_arguments(verb, options, "fuser", "-O ")
    return found | options


def region_side(chunks: str) -> Any:
    """The value of ``--chunks``; raises :class:`~slidefusion.errors.OptionError`."""
    if chunks == "auto":
        return "auto"
    try:
        return int(chunks)
    except ValueError:
        raise OptionError(
            f"--chunks {chunks!r}: give the side of a region in pixels, or auto"
        ) from None
