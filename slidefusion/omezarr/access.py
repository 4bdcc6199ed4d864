"""What a store or codec raises, as one error that says what was asked of it and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from slidefusion.errors import PlaceError, ProcessingError, SlidefusionError

__all__ = ["cause_of", "reaching", "reading", "writing"]


@contextlib.contextmanager
def reading(what: str, remedy: str = "restore it, then run again") -> Iterator[None]:
    """Turns whatever a store or codec raises into one ``ProcessingError`` naming ``what``."""
    try:
        yield
    except SlidefusionError:
        raise
    except MemoryError as error:
        raise ProcessingError(
            f"cannot read {what}: out of memory; run fewer tasks at a time, or smaller ones "
            "(chunks= of fuse), or its data is damaged and only claims to be large"
        ) from error
    except Exception as error:  # each codec and object store has exceptions of its own
        raise ProcessingError(
            f"cannot read {what}: {cause_of(error)}; the data there is damaged, truncated or out "
            f"of reach: {remedy}"
        ) from error


@contextlib.contextmanager
def reaching(where: str) -> Iterator[None]:
    """Turns whatever an output's place raises before it is written to into one ``PlaceError``."""
    try:
        yield
    except (SlidefusionError, MemoryError):
        raise
    except ImportError as error:
        raise PlaceError(f"the output {where} needs another package: {error}") from error
    except Exception as error:  # each object store has exceptions of its own
        raise PlaceError(
            f"the output {where} cannot be reached: {cause_of(error)}; check its address, the "
            "connection and your credentials, or choose another output; nothing was written"
        ) from error


_FAULTS = (AssertionError, AttributeError, NameError, TypeError)
"""What no store or disk raises."""


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns whatever a store or codec raises into one ``ProcessingError`` naming ``what``."""
    try:
        yield
    except (SlidefusionError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, _FAULTS):
            remedy = "this is a fault of slidefusion or of a library that it uses: please report it"
        else:
            remedy = "make room or restore access, then run the same call again"
        raise ProcessingError(
            f"cannot write {what}: {cause_of(error)}; what is finished is kept and marked "
            f"incomplete: {remedy}"
        ) from error


def cause_of(error: BaseException) -> str:
    """Its kind and what it says; of a group, those of the first in it.

    >>> cause_of(ExceptionGroup("2 reads failed", [OSError("a"), OSError("b")]))
    'OSError: a'
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
