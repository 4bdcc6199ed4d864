"""Weights by name: the installed packs, listed from their cards alone."""

from __future__ import annotations

import importlib.util
import logging
import threading
from pathlib import Path

from slidefusion import registry
from slidefusion.errors import (
    PluginError,
    ProcessingError,
    UnknownNameError,
    WeightsError,
    near_match,
)
from slidefusion.weights.card import CARD_SUFFIX, WEIGHTS_SUFFIX, Card, card_of, parse_card

__all__ = ["WEIGHTS", "blur_model_of", "find", "look_up", "read_bytes"]

WEIGHTS = "slidefusion.weights"
"""Entry-point group of packs: the value is a package whose folder holds weights and cards."""

_LOCK = threading.Lock()
_CARDS: dict[str, tuple[tuple[int, ...], Card]] = {}
_LOG = logging.getLogger("slidefusion")


def find() -> tuple[Card, ...]:
    """The cards of all weights in all installed packs, by name; slidefusion's own come first.

    A pack or a card that is broken is logged and left out. Neither torch nor any weights are read.
    """
    found = []
    for pack in registry.plugins(WEIGHTS):
        try:
            found += _cards_of(pack)
        except PluginError as error:
            _LOG.warning("%s", error)
    return tuple(sorted(found, key=lambda card: (card.name, card.pack != registry.BUILT_IN)))


def _cards_of(pack: registry.Plugin) -> list[Card]:
    folder = _folder(pack)
    cards = []
    for weights in sorted(folder.glob(f"*{WEIGHTS_SUFFIX}")):
        try:
            text = weights.with_suffix(CARD_SUFFIX).read_bytes()
            cards.append(parse_card(text, str(weights), pack.name))
        except (OSError, WeightsError) as error:
            _LOG.warning("weights %s of pack %r are left out: %s", weights, pack.name, error)
    return cards


def _folder(pack: registry.Plugin) -> Path:
    """Where a pack's package lies; the package itself is not imported."""
    try:
        spec = importlib.util.find_spec(pack.target)
    except (ImportError, ValueError):
        spec = None
    places = None if spec is None else spec.submodule_search_locations
    if not places:
        raise PluginError(
            f"the weights {pack.name!r} of distribution {pack.distribution} {pack.version} should "
            f"lie in the package {pack.target!r}, which is not there: reinstall {pack.distribution}"
        )
    return Path(next(iter(places)))


def look_up(reference: str) -> Card:
    """The card of the weights that ``reference`` means; read again only when a file has changed.

    ``reference`` is a name (``"focusgan-1"``, or ``"pack:name"`` where several packs have it), a
    path or a URL of a ``.safetensors`` file.

    Raises
    ------
    UnknownNameError
        Nothing of that name is installed, or no file lies there.
    WeightsError
        There is no card beside the file, or it is unusable.
    PluginError
        Several packs have weights of that name, and none is slidefusion's own.
    """
    with _LOCK:
        if reference in _CARDS:
            stamp, card = _CARDS[reference]
            if stamp == _stamp(card.where):
                return card
        card = _read_card(reference)
        _CARDS[reference] = _stamp(card.where), card
        return card


def _stamp(where: str) -> tuple[int, ...]:
    """Changes when a local file of weights or its card does."""
    if "://" in where:
        return ()
    try:
        found = [Path(name).stat() for name in (where, card_of(where))]
    except OSError:
        return (0,)
    return tuple(part for stat in found for part in (stat.st_mtime_ns, stat.st_size, stat.st_ino))


def _read_card(reference: str) -> Card:
    if _is_location(reference):
        where = reference if "://" in reference else str(Path(reference).expanduser().absolute())
        if not where.endswith(WEIGHTS_SUFFIX):
            raise WeightsError(
                f"weights {reference!r}: a file of weights is called NAME{WEIGHTS_SUFFIX}, with "
                f"its card NAME{CARD_SUFFIX} beside it; nothing else is read"
            )
        try:
            text = read_bytes(card_of(where))
        except FileNotFoundError:
            raise _missing(where) from None
        return parse_card(text, where)
    pack, _, name = reference.rpartition(":")
    known = find()
    matching = [card for card in known if card.name == name and pack in ("", card.pack)]
    if not matching:
        packs = sorted({card.pack for card in known if card.pack})
        if pack and pack not in packs:
            raise UnknownNameError(
                f"no weights {reference!r} are installed: no pack is called {pack!r}"
                f"{near_match(pack, packs)} (installed: {', '.join(packs) or 'none'})"
            )
        names = sorted({card.name for card in known if pack in ("", card.pack)})
        raise UnknownNameError(
            f"no weights {reference!r} are installed{near_match(name, names)} (installed: "
            f"{', '.join(names) or 'none'}); give one of these names, or the path or URL of a "
            f"{WEIGHTS_SUFFIX} file"
        )
    own = [card for card in matching if card.pack == registry.BUILT_IN]
    if len(matching) > 1 and not own:
        choices = ", ".join(repr(f"{card.pack}:{card.name}") for card in matching)
        raise PluginError(
            f"weights {reference!r} are in {len(matching)} packs; say which are meant: {choices}"
        )
    return (own or matching)[0]


def blur_model_of(card: Card) -> Card | None:
    """The card of the blur model that weights were trained with, or None if with none.

    It is in the same pack or folder; if not there, it is looked up by its name.

    Raises
    ------
    UnknownNameError
        When it is nowhere.
    WeightsError
        When what has its name is another one than the weights were trained with.
    """
    name = card.blur_model
    if name is None:
        return None
    beside = card.where.replace("\\", "/").rpartition("/")[0] + f"/{name}{WEIGHTS_SUFFIX}"
    try:
        found = look_up(beside) if card.pack is None else look_up(f"{card.pack}:{name}")
    except UnknownNameError:
        try:
            found = look_up(name)
        except UnknownNameError as error:
            raise UnknownNameError(
                f"weights {card.name!r} ({card.where}) were trained with a blur model {name!r}, "
                f"which is neither beside them nor in a pack: {error}"
            ) from None
    trained_with = card.facts.get("blur_sha256")
    if trained_with is not None and str(trained_with).lower() != found.sha256:
        raise WeightsError(
            f"weights {card.name!r} ({card.where}) were trained with a blur model {name!r} of the "
            f"SHA-256 {str(trained_with)[:16]}…, and {found.where} has {found.sha256[:16]}…: put "
            f"{name}{WEIGHTS_SUFFIX} and its card from the training beside the weights"
        )
    return found


def _is_location(reference: str) -> bool:
    return "/" in reference or "\\" in reference or reference.endswith(WEIGHTS_SUFFIX)


def _missing(where: str) -> UnknownNameError | WeightsError:
    try:
        read_bytes(where, 1)
    except FileNotFoundError:
        return UnknownNameError(f"no weights at {where}: there is no such file")
    return WeightsError(
        f"{where} has no card: {card_of(where)} must lie beside it, and says which network the "
        "weights are for; get it from where the weights came from"
    )


def read_bytes(where: str, count: int = -1) -> bytes:
    """The first ``count`` bytes, or all, of a path or URL.

    Raises
    ------
    FileNotFoundError
        When nothing is there.
    ProcessingError
        When it cannot be read.
    """
    try:
        if "://" not in where:
            with Path(where).open("rb") as file:
                return file.read(count)
        import fsspec

        with fsspec.open(where, "rb") as file:
            data: bytes = file.read(count)
            return data
    except Exception as error:  # each protocol of fsspec has its own
        # Of a server that does not answer fsspec says that there is no such file.
        cause = error.__cause__
        unreachable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if isinstance(error, FileNotFoundError) and not unreachable:
            raise
        raise ProcessingError(
            f"{where} cannot be read ({_cause(cause if unreachable else error)}): check that it is "
            "reachable and that this user may read it"
        ) from error


def _cause(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
