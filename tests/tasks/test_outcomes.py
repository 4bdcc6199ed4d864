"""Which errors may pass, wherever they stand in a chain or a group."""

from __future__ import annotations

import pytest

from slidefusion.errors import ProcessingError
from slidefusion.tasks.outcomes import is_out_of_reach, may_pass


def following(cause: BaseException) -> ProcessingError:
    error = ProcessingError("cannot read a shard")
    error.__cause__ = cause
    return error


def test_a_group_says_what_its_parts_say() -> None:
    """Zarr reads the parts of a shard at the same time, and what fails comes as a group."""
    passing = ExceptionGroup("unhandled errors in a TaskGroup", [ConnectionResetError("reset")])
    assert may_pass(following(passing)) == "retry" and is_out_of_reach(following(passing))
    lasting = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("checksum")])
    assert may_pass(following(lasting)) == "fail" and not is_out_of_reach(following(lasting))
    nested = ExceptionGroup("two", [ExceptionGroup("one", [OSError(28, "No space left")])])
    assert may_pass(following(nested)) == "stop"


@pytest.mark.parametrize("cause", [TimeoutError("slow"), MemoryError()])
def test_what_a_group_followed_from_counts(cause: Exception) -> None:
    group = ExceptionGroup("parts", [ValueError("bad")])
    group.__cause__ = cause
    assert may_pass(following(group)) == "retry"


def test_errors_that_follow_from_each_other_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert may_pass(one) == "fail"
