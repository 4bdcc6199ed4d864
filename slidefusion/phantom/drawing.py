"""Which painter draws which kind of structure."""

from __future__ import annotations

from slidefusion.phantom import cells, matter
from slidefusion.phantom.artist import Artist
from slidefusion.phantom.settings import PhantomSettings
from slidefusion.phantom.structures import Sheet, Structure

__all__ = ["draw"]

_PAINTERS = {
    "squamous": cells.squamous,
    "parabasal": cells.parabasal,
    "glandular": cells.glandular,
    "neutrophil": cells.neutrophil,
    "debris": matter.debris,
    "mucus": matter.mucus,
    "bacteria": matter.bacteria,
}


def draw(item: Structure, settings: PhantomSettings) -> list[Sheet]:
    """The sheets of ``item``, bottom to top; they depend on nothing but the two arguments."""
    return _PAINTERS[item.kind](Artist(item, settings))
