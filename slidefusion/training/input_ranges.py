"""What 8-bit inference needs to know of a trained network, measured on crops it learnt from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slidefusion.errors import OptionError
from slidefusion.files import replace_file
from slidefusion.training.augment import Augmentation
from slidefusion.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from slidefusion.training.trainer import Learner
    from slidefusion.weights import Card

__all__ = ["add_to_card", "ranges_of"]

_BATCHES = 8


def ranges_of(learner: Learner, network: nn.Module) -> dict[str, list[str]]:
    """For a card: the ranges of the inputs of ``network``, of the first batches of a run."""
    from slidefusion.nets.input_ranges import as_text, measure

    device = next(network.parameters()).device
    blur_model = getattr(learner, "blur_model", None)
    if blur_model is not None:
        blur_model.to(device)

    def run() -> None:
        for step in range(_BATCHES):
            batch = {name: value.to(device) for name, value in learner.sample(step).items()}
            learner.images(batch, network)

    training = network.training
    network.eval()
    ranges = measure(network, run)
    network.train(training)
    return as_text(ranges)


def add_to_card(
    weights: str | os.PathLike[str],
    stacks: Sequence[str | os.PathLike[str]],
    truths: Sequence[str | os.PathLike[str]] | None = None,
) -> None:
    """Write ``input_ranges`` into the card of weights that were trained without.

    ``weights`` is the path of a generator's ``.safetensors`` file that `train` wrote; ``stacks``
    and ``truths`` are as for `train`, slides such as it was trained on.

    Raises
    ------
    OptionError
        The weights are no file here, no generator's, or their card has no recipe.
    OutputError
        The card may not be written, or there is no room.
    StackError, UnknownNameError, WeightsError
        Something of it is missing, or does not fit.

    >>> add_to_card("runs/focusgan-1.safetensors", ["a.zarr", "b.zarr"])  # doctest: +SKIP
    """
    from slidefusion.training.adversarial import AdversarialLearner
    from slidefusion.training.checkpoint import writing_into
    from slidefusion.training.samples import Crops, open_pairs
    from slidefusion.weights import blur_model_of, load
    from slidefusion.weights.card import card_of

    loaded = load(os.fspath(weights))
    if loaded.card.pack is not None or "://" in loaded.card.where:
        raise OptionError(
            f"weights={os.fspath(weights)!r}: give the path of a .safetensors file, no name and no "
            "URL; the card beside it is written"
        )
    recipe = _recipe_of(loaded.card)
    blur = blur_model_of(loaded.card)
    blur_model = None if blur is None else load(blur.reference, fuser="blur").network
    given = None if truths is None else [os.fspath(truth) for truth in truths]
    crops = Crops.of(recipe, open_pairs([os.fspath(stack) for stack in stacks], given))
    text = ranges_of(AdversarialLearner(recipe, crops, blur_model), loaded.network)
    facts = {**loaded.card.facts, "input_ranges": text}
    card = Path(card_of(loaded.card.where))
    with writing_into(card.parent), replace_file(card, durable=True) as partial:
        partial.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _recipe_of(card: Card) -> Recipe:
    """The recipe that a card tells, with the precision that is fast here."""
    from slidefusion.fusers.network_tiles import resolve_precision

    told = card.facts.get("recipe")
    try:
        if not isinstance(told, dict):
            raise TypeError(f"recipe is {told!r}")
        augmentation = Augmentation(**told["augmentation"])
        precision = resolve_precision("auto", "cpu")
        recipe = Recipe(**{**told, "augmentation": augmentation, "precision": precision})
    except (LookupError, TypeError) as error:
        raise OptionError(
            f"{card.where} has a card without a recipe of slidefusion's ({error}): there is "
            "nothing to make crops by"
        ) from error
    if not recipe.is_generator:
        raise OptionError(f"{card.where} is for {card.fuser!r}: only generators run in 8 bits")
    return recipe
