"""Numbers as people write them in messages."""

from __future__ import annotations

__all__ = ["byte_text", "counted"]


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """So many of something.

    >>> counted(1, "plane"), counted(3, "plane"), counted(0, "patch", "patches")
    ('1 plane', '3 planes', '0 patches')
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def byte_text(count: float) -> str:
    """Bytes as MB or GB (powers of ten).

    >>> byte_text(2_500_000), byte_text(12_345_678_900)
    ('2.5 MB', '12.35 GB')
    """
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
