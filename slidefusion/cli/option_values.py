"""``-O levels=4``: values of options from text, by the type that the option declares."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from slidefusion.errors import OptionError

__all__ = ["free_value", "pairs", "refuse_taken", "typed_value"]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


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


def typed_value(owner: str, name: str, text: str, declared: str) -> Any:
    """``text`` as a value of the declared type, such as ``"int or None"``.

    Raises :class:`OptionError` when it is none.

    >>> typed_value("fuser 'lpp'", "levels", "4", "int"), typed_value("", "clamp", "no", "bool")
    (4, False)
    """
    kinds = declared.split(" or ")
    for kind in kinds:
        try:
            return _PARSERS.get(kind.partition("[")[0], _text)(text)
        except ValueError:
            continue
    raise OptionError(f"option {name}={text!r} of {owner} must be {declared}")


def free_value(text: str) -> Any:
    """``text`` as a number, truth value or list if it reads as one (JSON), or as it is.

    >>> free_value("2"), free_value("ZCYX"), free_value("true")
    (2, 'ZCYX', True)
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def _none(text: str) -> None:
    if text.lower() not in ("none", "null"):
        raise ValueError(text)


def _bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _sequence(text: str) -> tuple[Any, ...]:
    value = json.loads(f"[{text.strip('()[]')}]")
    return tuple(value)


def _text(text: str) -> str:
    return text


def _int(text: str) -> int:
    return int(text)


def _float(text: str) -> float:
    return float(text)


_PARSERS: dict[str, Any] = {
    "None": _none,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "tuple": _sequence,
    "list": _sequence,
    "Any": free_value,
}


def refuse_taken(given: dict[str, str], taken: Sequence[str]) -> None:
    """Refuse ``-O`` for what has an option of its own.

    Raises :class:`OptionError`.
    """
    for name in given:
        if name in taken:
            flag = "--" + name.replace("_", "-")
            raise OptionError(f"-O {name}=… is not an option of that kind; give {flag} instead")
