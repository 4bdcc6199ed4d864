"""Networks from files of weights: verified, built, and kept once a process."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slidefusion.errors import OtherPlanesError, UnknownNameError, WeightsError
from slidefusion.weights.card import Card, card_of
from slidefusion.weights.packs import look_up, read_bytes
from slidefusion.wording import counted

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["LoadedWeights", "fitting_card", "load"]

_KEPT = 12
"""Networks that stay loaded; those not used for longest go."""
_LOCK = threading.RLock()
_LOADED: OrderedDict[Any, LoadedWeights] = OrderedDict()


@dataclass(frozen=True, eq=False)
class LoadedWeights:
    """A network that is ready to be used. It is shared: never change it."""

    card: Card
    network: nn.Module
    """In eval mode, channels_last, its parameters not trainable."""
    device: torch.device


def load(
    reference: str,
    *,
    fuser: str | None = None,
    planes: int | None = None,
    device: str = "cpu",
    sha256: str | None = None,
) -> LoadedWeights:
    """The network with the weights that ``reference`` means, loaded once a process.

    Parameters
    ----------
    reference
        A name, a path or a URL; see :func:`slidefusion.weights.look_up`.
    fuser, planes
        What the weights must be for; None asks for nothing.
    device
        Where the network is put, in float32.
    sha256
        The file that it must be, when that was decided elsewhere (on another machine, say).

    Raises
    ------
    WeightsError
        When they do not fit: another fuser, number of planes, checksum, network or shape; or when
        the file is no safetensors. Nothing is used of a file before its checksum is verified.
    UnknownNameError
        When there are none.
    """
    with _LOCK:
        card = fitting_card(reference, fuser=fuser, planes=planes, sha256=sha256)
        key = (card.sha256, card.network, repr(sorted(card.config.items())), device)
        if key not in _LOADED:
            _LOADED[key] = _read(card, device)
            while len(_LOADED) > _KEPT:
                _LOADED.popitem(last=False)
        _LOADED.move_to_end(key)
        found = _LOADED[key]
        return LoadedWeights(card, found.network, found.device)


def fitting_card(
    reference: str,
    *,
    fuser: str | None = None,
    planes: int | None = None,
    sha256: str | None = None,
) -> Card:
    """The card of what ``reference`` means, if it is for this use and describes a network.

    Of the weights themselves nothing is read. Parameters and errors: as for :func:`load`.
    """
    card = look_up(reference)
    _check_fit(card, reference, fuser, planes, sha256)
    with _explained(card):
        _try(card.network, json.dumps(dict(card.config), sort_keys=True))
    return card


def _check_fit(
    card: Card, reference: str, fuser: str | None, planes: int | None, sha256: str | None
) -> None:
    what = f"weights {reference!r} ({card.where})"
    if fuser is not None and card.fuser != fuser:
        raise WeightsError(
            f"{what} are for {card.fuser!r}, and {fuser!r} was asked to use them: give weights "
            f"trained for {fuser!r} (slidefusion fusers {fuser} lists them)"
        )
    if planes is not None and card.planes is not None and card.planes != planes:
        raise OtherPlanesError(
            f"{what} take {counted(card.planes, 'plane')}, and {planes} are needed: choose other "
            f"planes, or weights for {planes}"
        )
    if sha256 is not None and card.sha256 != sha256.lower():
        raise WeightsError(
            f"{what} have the SHA-256 {card.sha256[:16]}…, and the run began with {sha256[:16]}…: "
            "install the same weights everywhere, then run again"
        )


def _read(card: Card, device: str) -> LoadedWeights:
    import safetensors
    import safetensors.torch
    import torch

    where = card.where
    try:
        data = read_bytes(where)  # once: what is hashed is what is used
    except FileNotFoundError:
        raise UnknownNameError(
            f"{card_of(where)} is there, and {where} is not: get the weights, too"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise WeightsError(
            f"{where} ({len(data)} bytes) has the SHA-256 {digest[:16]}…, and its card says "
            f"{card.sha256[:16]}…: the file is damaged or another one; get both files again"
        )
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{where} is no safetensors file ({error}): write weights with slidefusion.weights.save"
        ) from error
    network = _network(card)
    _check_tensors(card, network, tensors)
    lost = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if lost:
        raise WeightsError(
            f"{where} holds NaN or infinity in {len(lost)} of {len(tensors)} tensors ({lost[0]}, "
            "…): the training diverged; use other weights"
        )
    network.load_state_dict(tensors, assign=True)
    network.eval().requires_grad_(False)
    place = torch.device(device)
    network.to(device=place, dtype=torch.float32)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedWeights(card, network, place)


def _network(card: Card) -> nn.Module:
    with _explained(card):
        return _on_meta(card.network, card.config)


def _on_meta(network: str, config: Mapping[str, Any]) -> nn.Module:
    """The network without memory behind its tensors: a card cannot make it allocate any."""
    import torch

    from slidefusion.nets import build

    with torch.device("meta"):
        return build(network, **config)


@functools.lru_cache(maxsize=64)
def _try(network: str, config: str) -> None:
    _on_meta(network, json.loads(config))


@contextmanager
def _explained(card: Card) -> Iterator[None]:
    """Errors of building the card's network say which file is at fault."""
    from slidefusion.nets import NETWORKS

    if card.network not in NETWORKS:
        raise WeightsError(
            f"{card_of(card.where)} names the network {card.network!r}, and there are only "
            f"{', '.join(sorted(NETWORKS))}: update slidefusion, or use other weights"
        )
    try:
        yield
    except Exception as error:
        raise WeightsError(
            f"{card_of(card.where)} has a config that {card.network!r} does not take "
            f"({type(error).__name__}: {error}): update slidefusion, or use other weights"
        ) from error


def _check_tensors(card: Card, network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    wanted = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    given = {name: tuple(t.shape) for name, t in tensors.items()}
    outside = [n for n, t in network.named_buffers() if n not in wanted and t.is_meta]
    assert not outside, f"{card.network} has tensors that no file holds: {outside}"
    numbers = {name: t.is_floating_point() for name, t in network.state_dict().items()}
    wrong = [
        f"{n} is of {str(t.dtype).removeprefix('torch.')}"
        for n, t in tensors.items()
        if n in wanted and t.is_floating_point() != numbers[n]
    ]
    if wanted == given and not wrong:
        return
    faults = wrong
    faults += [f"{n} is missing" for n in wanted.keys() - given.keys()]
    faults += [f"{n} is not part of it" for n in given.keys() - wanted.keys()]
    faults += [
        f"{n} is {given[n]} instead of {wanted[n]}"
        for n in wanted.keys() & given.keys()
        if given[n] != wanted[n]
    ]
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    raise WeightsError(
        f"{card.where} does not fit the network {card.network!r} with {dict(card.config)}: "
        f"{'; '.join(sorted(faults)[:3])}{more}. Its card is of other weights: get both files again"
    )
