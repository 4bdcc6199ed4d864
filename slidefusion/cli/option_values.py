"""``-O levels=4``: options of a fuser or reader on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slidefusion.errors import OptionError
from slidefusion.option_text import free_value, typed_value

__all__ = ["free_value", "pairs", "refuse_taken", "typed_value"]


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


def refuse_taken(given: dict[str, str], taken: Sequence[str]) -> None:
    """Refuse ``-O`` for what has an option of its own.

    Raises :class:`OptionError`.
    """
    for name in given:
        if name in taken:
            flag = "--" + name.replace("_", "-")
            raise OptionError(f"-O {name}=… is not an option of that kind; give {flag} instead")
