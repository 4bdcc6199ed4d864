"""Every exception that slidefusion raises on purpose, drawn as a tree.

::

    SlidefusionError
    ├── UsageError              what was asked cannot be done as asked   (exit code 2)
    │   ├── OptionError         an option's name, type or value
    │   ├── UnknownNameError    no fuser, reader, plane or file of that name
    │   ├── StackError          the input is not a usable focus stack
    │   ├── WeightsError        a file of weights is damaged, or not for what it is used for
    │   │   └── OtherPlanesError    they are for another number of planes
    │   ├── ReaderError         a file holds what no reader can give in full
    │   ├── OutputError         the output exists, differs, or may not be written there
    │   │   └── PlaceError      its place is an input's, or does not answer
    │   └── MemoryBudgetError   the plan does not fit into the memory allowed
    ├── PluginError             a plugin is broken or ambiguous           (exit code 2)
    └── ProcessingError         reading, fusing or writing failed midway  (exit code 1)

Each message says what was given, what is allowed, and what to do. What is done all the same, though
perhaps not what is wanted, is warned of: :class:`SlidefusionWarning`.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable

__all__ = [
    "MemoryBudgetError",
    "OptionError",
    "OtherPlanesError",
    "OutputError",
    "PlaceError",
    "PluginError",
    "ProcessingError",
    "ReaderError",
    "SlidefusionError",
    "SlidefusionWarning",
    "StackError",
    "UnknownNameError",
    "UsageError",
    "WeightsError",
    "advise",
    "near_match",
]

_PACKAGE = __name__.partition(".")[0]


class SlidefusionError(Exception):
    """Base of all errors that slidefusion raises on purpose."""

    exit_code = 1


class UsageError(SlidefusionError):
    """What was asked cannot be done as asked; nothing was written."""

    exit_code = 2


class OptionError(UsageError):
    """An option has an unknown name, a wrong type or a value that is not allowed."""


class UnknownNameError(UsageError):
    """No fuser, reader, plane or file of the given name exists."""


class StackError(UsageError):
    """The input is not a focus stack that can be used as asked."""


class WeightsError(UsageError):
    """A file of weights is damaged, has no card, or does not fit what it is used for."""


class OtherPlanesError(WeightsError):
    """Weights are for another number of planes than they are to be used for."""


class ReaderError(UsageError):
    """A source file holds what no reader can give completely."""


class OutputError(UsageError):
    """The output exists, belongs to another run, or may not be written there."""


class PlaceError(OutputError):
    """The place of an output is an input's, or does not answer: what is there must stay."""


class MemoryBudgetError(UsageError):
    """The planned peak memory exceeds the budget."""


class PluginError(SlidefusionError):
    """An installed plugin is broken, or its name is ambiguous."""

    exit_code = 2


class ProcessingError(SlidefusionError):
    """Reading, fusing or writing failed midway; the output stays marked incomplete."""


class SlidefusionWarning(UserWarning):
    """What was asked for is done, but the result may not be what is wanted; says what to do."""


def advise(text: str) -> None:
    """Warn with a :class:`SlidefusionWarning`; the command line prints it as a line.

    The warning names the line outside of this package that called it, which is the user's.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE and frame.f_back:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, SlidefusionWarning, stacklevel=level)


def near_match(name: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest allowed name, or ``""``.

    >>> near_match("levles", ["levels", "window"])
    "; did you mean 'levels'?"
    """
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
