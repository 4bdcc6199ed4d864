"""What is said when a store cannot be written to or reached."""

from __future__ import annotations

import pytest

from slidefusion.errors import PlaceError, ProcessingError, StackError
from slidefusion.omezarr.access import reaching, writing


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


def test_a_package_that_is_missing_is_no_matter_of_the_place() -> None:
    message = "the output s3://b/a.zarr needs another package: Install s3fs"
    with pytest.raises(PlaceError, match=message), reaching("s3://b/a.zarr"):
        raise ImportError("Install s3fs to access S3")
