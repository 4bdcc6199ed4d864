"""Units of length, whatever wrote them."""

from __future__ import annotations

import pytest

from slidefusion.units import micrometres


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("µm", 1.0),  # micro sign
        ("μm", 1.0),  # Greek letter
        ("\\u00B5m", 1.0),  # as ImageJ escapes it
        (" Micrometer ", 1.0),
        ("microns", 1.0),
        ("NM", 0.001),
        ("Å", 0.0001),
        ("millimetre", 1000.0),
        ("cm", 10_000.0),
        ("inch", 25_400.0),
        ("inches", 25_400.0),
        ("Nanometers", 0.001),
        ("ms", None),
        ("pixel", None),
        ("", None),
        (None, None),
    ],
)
def test_lengths_in_um_and_what_is_none(text: str | None, expected: float | None) -> None:
    assert micrometres(text) == expected
