"""Weights of networks: a file of tensors with a model card beside it, by name, path or URL.

``focusgan-1.safetensors`` holds numbers and nothing that could run; ``focusgan-1.json``, its card,
says which network they are for, with which settings, what it was trained on, by which command, and
the SHA-256 of the file. Packs of them are found through the entry-point group
``slidefusion.weights``. Listing reads the cards only; torch is imported when weights are loaded or
saved.
"""

from __future__ import annotations

from slidefusion.weights.card import Card
from slidefusion.weights.loading import LoadedWeights, fitting_card, load
from slidefusion.weights.packs import blur_model_of, find, look_up
from slidefusion.weights.saving import check_copy, copy_to, save

__all__ = [
    "Card",
    "LoadedWeights",
    "blur_model_of",
    "check_copy",
    "copy_to",
    "find",
    "fitting_card",
    "load",
    "look_up",
    "save",
]
