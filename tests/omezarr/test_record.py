"""What the root of a store says of itself, sound or not."""

from __future__ import annotations

from typing import Any

import pytest

from slidefusion.errors import StackError
from slidefusion.omezarr.record import is_complete, record_of, refuse_incomplete


@pytest.mark.parametrize("said", [None, [], "x", 3, [["complete", False]]])
def test_what_is_no_mapping_is_no_record(said: Any) -> None:
    assert record_of({"slidefusion": said}) == {} == record_of({})


def test_a_record_is_a_copy() -> None:
    attributes = {"slidefusion": {"complete": True}}
    record_of(attributes)["complete"] = False
    assert attributes == {"slidefusion": {"complete": True}}


@pytest.mark.parametrize(
    ("record", "complete"),
    [
        ({"complete": True}, True),
        ({"complete": False}, False),
        ({}, None),
        *(({"complete": said}, None) for said in (None, 0, 1, "no", [])),
    ],
)
def test_only_a_store_that_says_no_is_refused(record: dict[str, Any], complete: Any) -> None:
    assert is_complete(record) is complete
    if complete is False:
        with pytest.raises(StackError, match=r"a\.zarr is incomplete: .* to continue it, then go$"):
            refuse_incomplete(record, "a.zarr", ", then go")
    else:
        refuse_incomplete(record, "a.zarr")
