"""The option ``--log``: what runs say of themselves, on standard error."""

from __future__ import annotations

from slidefusion.errors import OptionError

__all__ = ["start_log"]

_LEVELS = ("debug", "info", "warning", "error")


def start_log(level: str) -> None:
    """Send the logger ``slidefusion`` to standard error, from this level on.

    Raises :class:`OptionError` for an unknown level.
    """
    import logging

    if level.lower() not in _LEVELS:
        raise OptionError(f"--log {level!r}: give one of {', '.join(_LEVELS)}")
    logger = logging.getLogger("slidefusion")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s level=%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level.upper())
