"""What a store of this package says of itself: the attribute ``slidefusion`` of its root group.

It holds how the store was made, and whether it is complete. A store that something else wrote has
no such record, and neither has one whose record is no mapping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from slidefusion.errors import StackError

__all__ = [
    "DIGESTS_KEY",
    "RECORD_KEY",
    "digest_of",
    "digest_of_root",
    "is_complete",
    "record_of",
    "refuse_incomplete",
]

RECORD_KEY = "slidefusion"
"""The attribute that the record is kept under."""
DIGESTS_KEY = "slidefusion-digests"
"""The attribute of the root of a complete store that has the digest of the metadata of each group
and array, by its path. Pixels have checksums; metadata have these."""


def record_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the record among a root group's attributes; empty when the store is not ours.

    >>> record_of({"slidefusion": {"kind": "stack"}}), record_of({"slidefusion": 3}), record_of({})
    ({'kind': 'stack'}, {}, {})
    """
    found = attributes.get(RECORD_KEY)
    return dict(found) if isinstance(found, Mapping) else {}


def digest_of(metadata: Any) -> str:
    """A digest of what a JSON text says, however it is laid out.

    >>> digest_of({"a": 1, "b": [2]}) == digest_of({"b": (2,), "a": 1})
    True
    """
    text = json.dumps(json.loads(json.dumps(metadata)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_root(attributes: Mapping[str, Any]) -> str:
    """A digest of what a root group's attributes say of the image and its making.

    Others may put more beside it, and choose how the image is shown (``omero``).
    """
    ome = attributes.get("ome")
    ome = {key: ome[key] for key in ome if key != "omero"} if isinstance(ome, Mapping) else ome
    return digest_of([ome, attributes.get(RECORD_KEY)])


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
