"""What a training run is made of: every number, with the paper's values as defaults."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slidefusion.errors import OptionError, near_match
from slidefusion.nets import check_sizes
from slidefusion.training.augment import Augmentation

__all__ = ["METHODS", "Method", "Recipe", "compact", "published"]


@dataclass(frozen=True)
class Method:
    """What the networks that can be trained differ in."""

    network: str
    """Its name in ``slidefusion.nets``."""
    discriminator: str | None = None
    """That of its discriminator; None for a network that is trained by itself. Those with one are
    generators, of one plane or three."""
    masked: bool = False
    """Whether blur masks may condition it."""
    conditioned: bool = False
    """Whether the discriminator sees the planes beside the image, as published."""


METHODS = {
    "focusgan": Method("generator", "patch_discriminator", masked=True),
    "fusiongan": Method("fusiongan", "fusiongan_discriminator"),
    "pix2pix": Method("pix2pix", "pix2pix_discriminator", conditioned=True),
    "srgan": Method("srgan", "srgan_discriminator"),
    "blur": Method("blur_model"),
    "cnn": Method("focus_classifier"),
}

_NOT_OF_A_NETWORK = {
    "planes": "give planes (--planes)",
    "channels": "crops have three, gray slides each thrice",
    "masks": "focusgan takes blur masks unless the blur model is none (--blur-model none)",
}


@dataclass(frozen=True)
class Recipe:
    """A training run. The defaults are the paper's (section 4.2) for its generator; of the others
    :func:`published` has what was published.

    >>> Recipe("focusgan", planes=3).learning_rate
    5e-05
    """

    method: str
    """What is trained: one of ``METHODS``."""
    planes: int = 1
    """Planes that the network takes."""
    network: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the network (width, residual, …); the published ones when empty."""
    discriminator: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the discriminator."""
    steps: int = 372_110
    """Updates of the generator; the paper's 37,211 patches, ten times."""
    batch: int = 1
    """Crops an update."""
    crop_px: int = 512
    """Side of a crop in pixels."""
    learning_rate: float = 0.5e-4
    """Adam's, of the generator (the blur model's and the classifier's too)."""
    discriminator_rate: float = 0.25e-4
    """Adam's, of the discriminator."""
    schedule: Literal["epoch", "cosine"] = "epoch"
    """``epoch``: both rates x 0.8 every ``epoch_steps``. ``cosine``: up over the first 50 updates,
    then down to 1 % at the end."""
    epoch_steps: int = 37_211
    """Updates an epoch."""
    adversarial_weight: float = 0.001
    """Weight of the adversarial loss beside the content loss; 0 trains without a discriminator."""
    warm_up: int = 0
    """Updates by the content loss alone, before the discriminator joins."""
    clip: float = 0.0
    """Largest norm of the generator's gradient; longer ones are shortened. 0 for no limit."""
    ssim_weight: float = 0.0
    """Weight of 1 - SSIM in the content loss beside the mean absolute error."""
    average: float = 0.0
    """Decay of the moving average of the weights that is exported; 0 exports the weights. Without
    ``start`` it rises to that: (1 + n) / (10 + n) after n updates."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the convolutions; losses and weights are always float32. ``auto``: bfloat16 where the
    processor multiplies it faster than float32."""
    max_step: int = 3
    """Planes are up to this many steps of the stack apart."""
    spacing_um: float = 6.0
    """Planes that are no neighbours are at most this far apart in um, where the stack says how far
    they are."""
    real_masks: float = 0.5
    """``blur`` only: share of crops with a real mask; the others are degraded artificially."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Turns, stain jitter and so on."""
    start: str = ""
    """Weights (a name, path or URL) to begin with, of the same network, or for ``focusgan`` of that
    without masks or narrower; random ones if empty."""
    moved: float = 1.0
    """Share of the way from the weights of ``start`` to those trained that the exported ones go.
    Less than 1 keeps more of what they did for slides unlike these (Wortsman et al. 2022)."""
    seed: int = 0
    """Of initialisation, crops and augmentation."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OptionError(f"method {self.method!r}: choose one of {', '.join(METHODS)}")
        if min(self.planes, self.steps, self.batch, self.epoch_steps) < 1 or self.crop_px < 32:
            raise OptionError(
                f"planes {self.planes}, steps {self.steps}, batch {self.batch}, epoch_steps "
                f"{self.epoch_steps}, crop_px {self.crop_px}: all must be at least 1, crops 32 px"
            )
        if self.is_generator and self.planes not in (1, 3):
            raise OptionError(
                f"planes {self.planes}: fusers give a generator one plane or three (of two planes "
                "one twice); choose 1 or 3"
            )
        rates = self.learning_rate, self.discriminator_rate
        if self.seed < 0 or not all(math.isfinite(rate) and rate > 0 for rate in rates):
            raise OptionError(
                f"seed {self.seed}, learning_rate {rates[0]}, discriminator_rate {rates[1]}: a "
                "seed must be at least 0, rates above 0"
            )
        for name in sorted(_NOT_OF_A_NETWORK.keys() & self.network.keys()):
            raise OptionError(f"network.{name} is not chosen so: {_NOT_OF_A_NETWORK[name]}")
        check_sizes("network.", self.network)
        check_sizes("discriminator.", self.discriminator)
        if self.schedule not in ("epoch", "cosine"):
            raise OptionError(f"schedule {self.schedule!r}: choose 'epoch' or 'cosine'")
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise OptionError(
                f"precision {self.precision!r}: choose 'auto', 'float32' or 'bfloat16'"
            )
        self._check_weights()
        if not 0.0 <= self.average < 1.0:
            raise OptionError(f"average {self.average}: must be at least 0 and less than 1")
        if not 0.0 < self.moved <= 1.0 or (self.moved < 1.0 and not self.start):
            raise OptionError(
                f"moved {self.moved}: must be above 0 and at most 1; less than 1 needs start"
            )

    def _check_weights(self) -> None:
        for name in ("adversarial_weight", "warm_up", "clip", "ssim_weight"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise OptionError(f"{name} {value}: must be finite, and at least 0")
        if self.max_step < 1 or not self.spacing_um > 0 or not 0 <= self.real_masks <= 1:
            raise OptionError(
                f"max_step {self.max_step}, spacing_um {self.spacing_um}, real_masks "
                f"{self.real_masks}: max_step must be at least 1, spacing_um above 0, and "
                "real_masks, a share, from 0 to 1"
            )

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator is trained along."""
        return self.is_generator and self.adversarial_weight > 0

    @property
    def kind(self) -> Method:
        """What the method is made of."""
        return METHODS[self.method]

    @property
    def is_generator(self) -> bool:
        """Whether the network makes images, from one plane or three."""
        return self.kind.discriminator is not None

    def rate(self, step: int) -> float:
        """What the learning rates are multiplied with at ``step``.

        >>> Recipe("srgan", steps=100, schedule="cosine").rate(100)
        0.01
        """
        if self.schedule == "epoch":
            return float(0.8 ** (step // self.epoch_steps))
        down = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
        return min(1.0, (step + 1) / 50) * down

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with other values; ``network.width`` and the like change one entry of a group.

        Raises
        ------
        OptionError
            A name is unknown, or a value has the wrong type.

        >>> Recipe("srgan").changed({"steps": 10, "network.width": 8}).network
        {'width': 8}
        """
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in changes.items():
            group, _, entry = name.partition(".")
            allowed = [n for n in values if n not in ("method", "planes")]
            if group not in allowed:
                raise OptionError(
                    f"a recipe has no setting {name!r}{near_match(group, allowed)}; settings: "
                    f"{', '.join(allowed)}"
                )
            old = values[group]
            if isinstance(old, dict) and entry:
                values[group] = {**old, entry: value}
            elif isinstance(old, Augmentation) and hasattr(old, entry):
                _check_type(name, value, getattr(old, entry))
                values[group] = dataclasses.replace(old, **{entry: value})
            elif entry or isinstance(old, dict | Augmentation):
                raise OptionError(f"{name!r}: give one entry of {group}, like {group}.NAME=VALUE")
            else:
                _check_type(name, value, old)
                values[group] = value
        return Recipe(**values)

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def _check_type(name: str, value: Any, old: Any) -> None:
    kinds = (int, float) if isinstance(old, float) else (type(old),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(old, bool)):
        raise OptionError(f"{name}={value!r}: must be of type {type(old).__name__}, like {old!r}")


_COMPACT: dict[str, dict[str, Any]] = {
    "focusgan": {
        "network": {
            "width": 16,
            "unshuffle": 2,
            "edge_kernel": 5,
            "details": True,
            "upsample": "nearest",
            "residual": True,
        },
        "discriminator": {"width": 16},
    },
    "fusiongan": {
        "network": {"width": 12, "residual": True},
        "discriminator": {"width": 16},
    },
    "pix2pix": {
        "network": {"width": 24, "depth": 5, "residual": True},
        "discriminator": {"width": 16},
    },
    "srgan": {
        "network": {"width": 12, "blocks": 8, "residual": True},
        "discriminator": {"width": 8},
    },
    "blur": {"network": {"width": 16, "blocks": [1, 1, 2]}, "learning_rate": 2e-3},
    "cnn": {"network": {"width": 32}, "learning_rate": 1e-3},
}


_PUBLISHED: dict[str, dict[str, Any]] = {
    # Trained until it converged; here for 40 epochs of its 5100 images.
    "blur": {"learning_rate": 1e-3, "batch": 4, "steps": 51_000, "epoch_steps": 51_000},
    # Liu et al. 2017, section 3.3: batches of 128 pairs, eight a crop; theirs by plain descent.
    "cnn": {"learning_rate": 1e-4, "batch": 16, "steps": 78_000, "epoch_steps": 78_000},
}


def published(method: str, planes: int = 1, **changes: Any) -> Recipe:
    """The published recipe: full networks, their rates and batches.

    ``fusiongan``, ``pix2pix`` and ``srgan`` are trained as the paper trains its generator, to
    compare with. The blur model has Adam 1e-3 and batches of 4 (section 4.2).

    >>> published("blur").learning_rate
    0.001
    """
    return Recipe(method, **{"planes": planes, **_PUBLISHED.get(method, {}), **changes})


def compact(method: str, planes: int = 1, **changes: Any) -> Recipe:
    """The recipe of the weights that ship: a laptop's, the same for every generator.

    Small networks that learn the difference to the middle plane, crops of 128 px in batches of 4,
    Adam 1e-3 with cosine decay, bfloat16 where it is fast, an exported moving average, and the
    discriminator for the last 30 %.

    >>> compact("focusgan", 3).network["width"]
    16
    """
    steps = changes.get("steps", 3000)
    shared: dict[str, Any] = {
        "planes": planes,
        "steps": steps,
        "warm_up": steps * 7 // 10,
        "clip": 0.1,
        "batch": 4,
        "crop_px": 128,
        "learning_rate": 1e-3,
        "discriminator_rate": 2e-4,
        "schedule": "cosine",
        "ssim_weight": 0.1,
        "average": 0.998,
        "precision": "auto",
    }
    return Recipe(method, **{**shared, **_COMPACT.get(method, {}), **changes})
