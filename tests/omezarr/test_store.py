"""What a store says when it cannot be written to."""

from __future__ import annotations

import pytest

from slidefusion.errors import ProcessingError, StackError
from slidefusion.omezarr.store import writing


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(28, "No space left on device"), "make room or restore access"),
        (RuntimeError("error during blosc compression"), "make room or restore access"),
        (TypeError("write() takes 2 arguments"), "please report it"),
    ],
)
def test_the_remedy_is_that_of_the_cause(error: Exception, remedy: str) -> None:
    message = f"cannot write a shard: .*{remedy}"
    with pytest.raises(ProcessingError, match=message) as told, writing("a shard"):
        raise error
    assert told.value.__cause__ is error


def test_what_is_clear_already_stays_as_it_is() -> None:
    with pytest.raises(StackError, match="plane 3"), writing("a shard"):
        raise StackError("plane 3 is not there")
