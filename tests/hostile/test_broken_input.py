"""Broken and hostile input: a right answer or one clear error, soon, in little memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from .broken_stores import broken_stores
from .broken_tiffs import broken_tiffs
from .conftest import Warden


def _examples(count: int) -> settings:
    # Cases are small and printed whole; looking for smaller ones would take longer than reading.
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=tuple(HealthCheck),
    )


@_examples(25)
@given(case=broken_stores)
def test_stores(warden: Warden, case: tuple[str, list[Any]]) -> None:
    assert warden.store(*case) == []


@_examples(15)
@given(case=broken_tiffs)
def test_tiffs(warden: Warden, case: tuple[str, list[Any]]) -> None:
    assert warden.tiff(*case) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@_examples(200)
@given(case=broken_stores)
def test_many_stores(warden: Warden, case: tuple[str, list[Any]]) -> None:
    assert warden.store(*case) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@_examples(100)
@given(case=broken_tiffs)
def test_many_tiffs(warden: Warden, case: tuple[str, list[Any]]) -> None:
    assert warden.tiff(*case) == []
