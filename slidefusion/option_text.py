"""Values of options from text, by the type that an option declares."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

from slidefusion.errors import OptionError

__all__ = ["free_value", "refuse_arguments", "typed_value"]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def typed_value(owner: str, name: str, text: str, declared: str) -> Any:
    """``text`` as a value of the declared type, such as ``"int or None"``.

    Raises :class:`OptionError` when it is none.

    >>> typed_value("fuser 'lpp'", "levels", "4", "int"), typed_value("", "clamp", "no", "bool")
    (4, False)
    >>> typed_value("", "stains", "eosin, orange G (2)", "tuple[str, ...]")
    ('eosin', 'orange G (2)')
    """
    # None first: it is a text as well, and how the default of many options is shown.
    for kind in sorted(declared.split(" or "), key=lambda kind: kind != "None"):
        try:
            return _PARSERS.get(kind, _PARSERS.get(kind.partition("[")[0], str))(text)
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


def refuse_arguments(
    verb: Callable[..., Any], names: Iterable[str], kind: str, prefix: str
) -> None:
    """Refuse options of a plugin that ``verb``, which passes them on, has for its own arguments.

    ``kind`` is what the plugin is, ``prefix`` what stands before the names where they were given.

    Raises :class:`OptionError` naming the first of them.

    >>> refuse_arguments(sorted, ["axes"], "reader", "-O ")
    """
    own = inspect.signature(verb).parameters.values()
    arguments = {argument.name for argument in own if argument.kind is not argument.VAR_KEYWORD}
    for name in names:
        if name in arguments:
            raise OptionError(
                f"{prefix}{name}=… is no option of a {kind} but an argument of {verb.__name__} "
                "itself: give it as that"
            )


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


def _words(text: str) -> tuple[Any, ...]:
    try:
        return tuple(map(str, json.loads(text if text[:1] == "[" else f"[{text}]")))
    except ValueError:  # as they stand
        return tuple(word.strip() for word in text.split(",") if word.strip())


_PARSERS: dict[str, Any] = {
    "None": _none,
    "bool": _bool,
    "int": int,
    "float": float,
    "tuple[str, ...]": _words,
    "tuple": _sequence,
    "list[str]": lambda text: list(_words(text)),
    "list": lambda text: list(_sequence(text)),
    "Any": free_value,
}
