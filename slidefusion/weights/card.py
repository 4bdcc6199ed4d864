"""The card beside a file of weights: what it is, and for what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slidefusion.errors import WeightsError

__all__ = ["CARD_SUFFIX", "WEIGHTS_SUFFIX", "Card", "card_of", "parse_card"]

WEIGHTS_SUFFIX = ".safetensors"
CARD_SUFFIX = ".json"


@dataclass(frozen=True)
class Card:
    """A model card, checked: what is needed to use the weights, and all else as it was written."""

    where: str
    """Path or URL of the weights (``.safetensors``)."""
    name: str
    """Name that the weights are asked for by."""
    fuser: str
    """Fuser that they are for, or ``"blur"``."""
    network: str
    """Name of the network in ``slidefusion.nets.NETWORKS``."""
    sha256: str
    """Of the file of weights, 64 hexadecimal digits."""
    planes: int | None = None
    """Planes that the network takes, or None where it does not matter."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the network."""
    blur_model: str | None = None
    """Name of the blur model's weights whose masks the network was trained with."""
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Everything in the JSON: trained_on, command, commit, steps, metrics, license …"""
    pack: str | None = None
    """Entry-point name of the pack that it is in, or None when it was given by path or URL."""

    @property
    def reference(self) -> str:
        """What asks for exactly these weights."""
        return self.where if self.pack is None else f"{self.pack}:{self.name}"

    @property
    def parameters(self) -> int | None:
        """Number of parameters, as the card states it."""
        count = self.facts.get("parameters")
        return count if isinstance(count, int) else None


def card_of(weights: str) -> str:
    """Path or URL of the card beside a file of weights.

    >>> card_of("https://example.org/focusgan-1.safetensors")
    'https://example.org/focusgan-1.json'
    """
    return weights.removesuffix(WEIGHTS_SUFFIX) + CARD_SUFFIX


def parse_card(text: bytes, where: str, pack: str | None = None) -> Card:
    """The card in ``text`` (JSON), which belongs to the weights at ``where``.

    Raises
    ------
    WeightsError
        When it is no JSON object, or lacks what is needed to use the weights.
    """
    place = card_of(where)
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise WeightsError(
            f"{place} is no JSON ({error}), so nothing is known of {where}: get both files again"
        ) from error
    if not isinstance(facts, dict):
        raise WeightsError(f"{place} holds a JSON {type(facts).__name__}; a card is an object")
    needed = {"name": str, "fuser": str, "network": str, "sha256": str}
    for key, kind in needed.items():
        if not isinstance(facts.get(key), kind):
            raise WeightsError(
                f"{place} has {key}={facts.get(key)!r}; a card needs {', '.join(needed)} as texts: "
                "write weights and card with slidefusion.weights.save"
            )
    planes, config, blur = facts.get("planes"), facts.get("config", {}), facts.get("blur_model")
    for key, name in (("name", facts["name"]), ("blur_model", blur)):
        if isinstance(name, str) and (not name or name[0] == "." or set(name) & set("/\\:")):
            raise WeightsError(
                f"{place} has {key}={name!r}; it must be a name, no path or URL: what belongs to "
                "weights lies beside them or in their pack"
            )
    if not (planes is None or (isinstance(planes, int) and planes >= 1)):
        raise WeightsError(f"{place} has planes={planes!r}; it must be 1 or more, or null")
    if not isinstance(config, dict) or not (blur is None or isinstance(blur, str)):
        raise WeightsError(
            f"{place} has config={config!r} and blur_model={blur!r}; they must be an object, and a "
            "name or null"
        )
    taken = config.get("planes")
    if isinstance(taken, int) and taken != (taken if planes is None else planes):
        raise WeightsError(
            f"{place} has planes={planes}, and its config planes={taken}: the card is of other "
            "weights; get both files again"
        )
    return Card(
        where=where,
        name=facts["name"],
        fuser=facts["fuser"],
        network=facts["network"],
        sha256=facts["sha256"].lower(),
        planes=taken if planes is None and isinstance(taken, int) else planes,
        config=config,
        blur_model=blur,
        facts=facts,
        pack=pack,
    )
