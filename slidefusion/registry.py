"""Plugins by name, through entry points: listed from metadata, loaded one at a time.

Fusers live in the group ``slidefusion.fusers``, readers in ``slidefusion.readers``, built-ins
included. A name that several distributions claim is an error when it is asked for, except that the
built-in of that name always wins; ``"distribution:name"`` says which one is meant.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from slidefusion.declarations import check_declarations, missing_attributes
from slidefusion.errors import OptionError, PluginError, UnknownNameError, near_match
from slidefusion.fuser import Fuser

__all__ = [
    "FUSERS",
    "READERS",
    "OptionInfo",
    "Plugin",
    "declared_options",
    "find",
    "fuser_options",
    "fusers",
    "get_fuser",
    "plugins",
]

FUSERS = "slidefusion.fusers"
READERS = "slidefusion.readers"
BUILT_IN = "slidefusion"


@dataclass(frozen=True)
class Plugin:
    """One installed plugin, known from its distribution's metadata alone."""

    name: str
    """Name it is registered under."""
    distribution: str
    """Distribution that provides it."""
    version: str
    """Version of that distribution."""
    target: str
    """``module:attribute`` that is imported when it is used."""
    group: str = FUSERS
    """Entry-point group."""

    @property
    def built_in(self) -> bool:
        """Whether slidefusion itself provides it."""
        return self.distribution == BUILT_IN

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, unambiguous."""
        return f"{self.distribution}:{self.name}"

    def load(self) -> Any:
        """Import and return what it points to.

        Raises
        ------
        PluginError
            Naming the distribution, the target and the cause, when the import fails.
        """
        entry = importlib.metadata.EntryPoint(self.name, self.target, self.group)
        try:
            return entry.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{_kind(self.group)} {self.name!r} of distribution "
                f"{self.distribution} {self.version} cannot be loaded from {self.target!r}: "
                f"{type(error).__name__}: {error}; repair or uninstall {self.distribution}"
            ) from error


def plugins(group: str) -> tuple[Plugin, ...]:
    """Every plugin of a group, sorted by name, without importing any of them."""
    found: dict[tuple[str, str], Plugin] = {}
    known: dict[int, tuple[str, str]] = {}  # each question to a distribution parses its metadata
    for entry in importlib.metadata.entry_points(group=group):
        name, version = "unknown", "unknown"
        if entry.dist is not None:
            if id(entry.dist) not in known:
                known[id(entry.dist)] = _provenance(entry.dist)
            name, version = known[id(entry.dist)]
        # The first on the path is what an import would give.
        found.setdefault((name, entry.name), Plugin(entry.name, name, version, entry.value, group))
    return tuple(sorted(found.values(), key=lambda p: (p.name, not p.built_in, p.distribution)))


def _provenance(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version of a distribution; "unknown" where its folder has no METADATA.

    Of such a one, Python's own reader says None, and the package importlib_metadata, which takes
    its place where Dask is imported, raises.
    """
    try:
        return _normalised(distribution.name or "unknown"), distribution.version or "unknown"
    except (KeyError, OSError):  # the former is to come, as Python warns
        return "unknown", "unknown"


def _kind(group: str) -> str:
    """What a plugin of the group is: "fuser" of "slidefusion.fusers"."""
    return group.rpartition(".")[2].removesuffix("s")


def _normalised(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


def find(group: str, name: str) -> Plugin:
    """The plugin of that name, or of that ``distribution:name``.

    Raises
    ------
    UnknownNameError
        When none is installed; the message lists what is.
    OptionError
        When the name is no text.
    PluginError
        When several distributions claim the name and none is built in.
    """
    installed = plugins(group)
    if not isinstance(name, str):
        raise OptionError(f"{name!r} is no name of a {_kind(group)}: give a text")
    distribution, _, plain = name.rpartition(":")
    distribution = _normalised(distribution)
    matching = [
        plugin
        for plugin in installed
        if plugin.name == plain and distribution in ("", plugin.distribution)
    ]
    built_in = [plugin for plugin in matching if plugin.built_in]
    if built_in:
        return built_in[0]
    if len(matching) > 1:
        candidates = ", ".join(repr(plugin.qualified_name) for plugin in matching)
        raise PluginError(
            f"the name {name!r} is claimed by {len(matching)} distributions; "
            f"say which one is meant: {candidates}"
        )
    if not matching:
        known = sorted({plugin.name for plugin in installed})
        raise UnknownNameError(
            f"no {_kind(group)} {name!r} is installed{near_match(plain, known)} "
            f"(installed: {', '.join(known) or 'none'})"
        )
    return matching[0]


def fusers() -> tuple[Plugin, ...]:
    """Every installed fuser: name, distribution, version and target. Imports none of them.

    >>> "lpp" in [plugin.name for plugin in fusers()]
    True
    """
    return plugins(FUSERS)


@dataclass(frozen=True)
class OptionInfo:
    """What one option of a fuser is."""

    name: str
    type: str
    default: Any
    help: str
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


def fuser_options(name: str) -> tuple[OptionInfo, ...]:
    """The options of a fuser with type, default and meaning; imports that one fuser."""
    return declared_options(find(FUSERS, name).load())


def declared_options(factory: Any) -> tuple[OptionInfo, ...]:
    """The options of a fuser class: its dataclass fields but those named ``_…``."""
    if not dataclasses.is_dataclass(factory):
        return ()
    hints = _type_hints(factory)
    found = []
    for field in dataclasses.fields(factory):
        if not field.init or field.name.startswith("_"):
            continue
        meta = field.metadata.get("slidefusion", {})
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        choices = meta.get("choices")
        found.append(
            OptionInfo(
                field.name,
                _type_name(hints.get(field.name, Any)),
                None if default is dataclasses.MISSING else default,
                meta.get("help", ""),
                None if choices is None else tuple(choices),
                meta.get("minimum"),
                meta.get("maximum"),
            )
        )
    return tuple(found)


def get_fuser(name: str, /, **options: Any) -> Fuser:
    """The fuser of that name with these options, checked by name, type and range.

    Raises
    ------
    UnknownNameError
        No such fuser.
    PluginError
        The plugin is broken, calls itself by another name than its entry point's, or its name is
        ambiguous.
    OptionError
        An unknown option, or a value of the wrong type or outside its range.

    >>> get_fuser("lpp", levels=4, background="fuse").footprint.period
    16
    """
    plugin = find(FUSERS, name)
    factory = plugin.load()
    options = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
    _check_options(plugin.name, factory, options)
    try:
        fuser = factory(**options)
    except (OptionError, PluginError):
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"fuser {plugin.qualified_name!r} cannot be made with options {options}: "
            f"{type(error).__name__}: {error}"
        ) from error
    missing = missing_attributes(fuser)
    if missing:
        raise PluginError(
            f"{plugin.qualified_name!r} ({plugin.target}) is no fuser: it lacks "
            f"{', '.join(missing)}; see slidefusion.fuser.Fuser"
        )
    checked = check_declarations(fuser, f"fuser {plugin.qualified_name!r}")
    if checked.name != plugin.name:
        raise PluginError(
            f"fuser {plugin.qualified_name!r} ({plugin.target}) calls itself {checked.name!r}: its "
            "entry point and its class must have the same name"
        )
    return checked


def _check_options(name: str, factory: Any, options: dict[str, Any]) -> None:
    if not dataclasses.is_dataclass(factory):
        return  # the factory checks its own
    known = {info.name: info for info in declared_options(factory)}
    hints = _type_hints(factory)
    for key, value in options.items():
        if key not in known:
            raise OptionError(
                f"fuser {name!r} has no option {key!r}{near_match(key, known)} "
                f"(options: {', '.join(known) or 'none'})"
            )
        info = known[key]
        if not _is_instance(value, hints.get(key, Any)):
            raise OptionError(
                f"option {key}={value!r} of fuser {name!r} is of type {type(value).__name__}; "
                f"it must be {info.type}"
            )
        values = value if isinstance(value, tuple | list) else (value,)
        numbers = [found for found in values if isinstance(found, int | float)]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise OptionError(f"option {key}={value!r} of fuser {name!r} is not finite")
        if info.choices is not None and value not in info.choices:
            near = near_match(value, map(str, info.choices)) if isinstance(value, str) else ""
            raise OptionError(
                f"option {key}={value!r} of fuser {name!r} is not allowed{near} "
                f"(allowed: {', '.join(map(repr, info.choices))})"
            )
        least = -math.inf if info.minimum is None else info.minimum
        most = math.inf if info.maximum is None else info.maximum
        if not all(least <= number <= most for number in numbers):
            low = "" if info.minimum is None else f"at least {info.minimum:g}"
            high = "" if info.maximum is None else f"at most {info.maximum:g}"
            raise OptionError(
                f"option {key}={value!r} of fuser {name!r} is out of range: it must be "
                f"{' and '.join(part for part in (low, high) if part)}"
            )


def _type_hints(factory: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(factory)
    except Exception:  # a name only known to a type checker: such an option goes unchecked
        return {}


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if hint is type(None):
        return "None"
    if typing.get_origin(hint) is not None:
        return str(hint)
    return cast(str, getattr(hint, "__name__", str(hint)))


def _is_instance(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_is_instance(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if isinstance(value, bool) and hint in (int, float):
        return False
    if hint is float:
        return isinstance(value, (int, float))
    if hint is tuple or origin is tuple:
        return isinstance(value, tuple | list) and _are_instances(value, typing.get_args(hint))
    return isinstance(value, origin or hint)


def _are_instances(values: Sequence[Any], hints: tuple[Any, ...]) -> bool:
    """Whether these are what a tuple with such arguments holds."""
    if not hints:
        return True
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    return len(values) == len(hints) and all(map(_is_instance, values, hints))
