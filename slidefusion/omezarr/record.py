"""What a store of this package says of itself: the attribute ``slidefusion`` of its root group.

It holds how the store was made, and whether it is complete. A store that something else wrote has
no such record, and neither has one whose record is no mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slidefusion.errors import StackError

__all__ = ["RECORD_KEY", "is_complete", "record_of", "refuse_incomplete"]

RECORD_KEY = "slidefusion"
"""The attribute that the record is kept under."""


def record_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the record among a root group's attributes; empty when the store is not ours.

    >>> record_of({"slidefusion": {"kind": "stack"}}), record_of({"slidefusion": 3}), record_of({})
    ({'kind': 'stack'}, {}, {})
    """
    found = attributes.get(RECORD_KEY)
    return dict(found) if isinstance(found, Mapping) else {}


def is_complete(record: Mapping[str, Any]) -> bool | None:
    """Whether the run that wrote the store came to its end; None when the record does not say.

    >>> is_complete({"complete": False}), is_complete({}), is_complete({"complete": "yes"})
    (False, None, None)
    """
    said = record.get("complete")
    return said if isinstance(said, bool) else None


def refuse_incomplete(record: Mapping[str, Any], where: str, then: str = "") -> None:
    """Refuse the store at ``where`` if its record says that it is not complete.

    ``then`` ends the sentence that says what to do.

    Raises
    ------
    StackError
        It is incomplete.
    """
    if is_complete(record) is False:
        raise StackError(
            f"{where} is incomplete: the run that writes it was interrupted or is still going on. "
            f"Repeat that call to continue it{then}"
        )
