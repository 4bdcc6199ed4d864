"""Units of length, as files and programs name them."""

from __future__ import annotations

__all__ = ["micrometres"]

_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "decimeter": 1e5,
    "decimetre": 1e5,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek letter
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
    "picometre": 1e-6,
    "inch": 25400.0,
    "inche": 25400.0,  # of which there are several: inches
    "in": 25400.0,
}


def micrometres(unit: str | None) -> float | None:
    """µm in one ``unit``, in capitals or small letters; None when it is no length.

    >>> micrometres("nm"), micrometres("Millimeters"), micrometres("pixel")
    (0.001, 1000.0, None)
    """
    text = (unit or "").strip()
    text = text.replace("\\u00B5", "µ").replace("\\u00b5", "µ")  # as ImageJ writes it
    text = text.lower()
    if len(text) > 4:  # a name and no symbol, which may be in the plural
        text = text.removesuffix("s")
    return _MICROMETRES.get(text)
