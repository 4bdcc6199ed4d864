"""The networks, one published network a file; built by name from a JSON-able configuration.

torch is imported when a network is built, not before.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slidefusion.errors import OptionError, near_match

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NETWORKS", "build", "check_sizes"]

NETWORKS: dict[str, str] = {
    "generator": "slidefusion.nets.generator:Generator",
    "patch_discriminator": "slidefusion.nets.patch_discriminator:PatchDiscriminator",
    "blur_model": "slidefusion.nets.blur_model:BlurModel",
    "fusiongan": "slidefusion.nets.fusiongan:FusionGanGenerator",
    "fusiongan_discriminator": "slidefusion.nets.fusiongan:FusionGanDiscriminator",
    "pix2pix": "slidefusion.nets.pix2pix:Pix2PixGenerator",
    "pix2pix_discriminator": "slidefusion.nets.pix2pix:Pix2PixDiscriminator",
    "srgan": "slidefusion.nets.srgan:SrganGenerator",
    "srgan_discriminator": "slidefusion.nets.srgan:SrganDiscriminator",
    "focus_classifier": "slidefusion.nets.focus_classifier:FocusClassifier",
}
"""Name of each network to the class that builds it (``module:Class``)."""


def build(name: str, **config: Any) -> nn.Module:
    """Build the network ``name`` with freshly initialised weights.

    Raises
    ------
    OptionError
        No network has this name, or its configuration is not one that it takes.

    >>> build("generator", planes=1, width=8).config["width"]  # doctest: +SKIP
    8
    """
    if name not in NETWORKS:
        raise OptionError(
            f"no network is called {name!r}{near_match(name, NETWORKS)}; "
            f"there are {', '.join(sorted(NETWORKS))}"
        )
    check_sizes(f"network {name}: ", config)
    module, _, attribute = NETWORKS[name].partition(":")
    network_class: type[nn.Module] = getattr(importlib.import_module(module), attribute)
    _check_config(name, network_class, config)
    try:
        return network_class(**config)
    except (TypeError, ValueError) as error:
        raise OptionError(f"network {name}: {error}") from error


def _check_config(name: str, network_class: type[nn.Module], config: Mapping[str, Any]) -> None:
    """Whether the network has these settings, and values are of the kind of their defaults."""
    settings = inspect.signature(network_class).parameters
    for setting, value in config.items():
        if setting not in settings:
            raise OptionError(
                f"network {name} has no setting {setting!r}{near_match(setting, settings)}; its "
                f"settings: {', '.join(settings)}"
            )
        default = settings[setting].default
        if isinstance(default, tuple) and not (
            isinstance(value, list | tuple)
            and len(value) == len(default)
            and all(type(one) is type(other) for one, other in zip(value, default, strict=True))
        ):
            raise OptionError(
                f"network {name}: {setting}={value!r} must be a list like {list(default)}"
            )
        if isinstance(default, bool | int | str) and type(value) is not type(default):
            raise OptionError(
                f"network {name}: {setting}={value!r} must be of type {type(default).__name__}, "
                f"like {default!r}"
            )


def check_sizes(prefix: str, config: Mapping[str, Any]) -> None:
    """Numbers of channels, layers… must be at least 1; a discriminator may see no condition. The
    side of a kernel must be odd, or the image would not keep its size.

    Raises :class:`~slidefusion.errors.OptionError`, with ``prefix`` before the name, otherwise.

    >>> check_sizes("network.", {"width": 16, "blocks": [1, 1, 2], "residual": False})
    """
    for name, given in config.items():
        sizes = given if isinstance(given, list | tuple) else [given]
        least = 0 if name == "condition" else 1
        if any(type(size) is int and size < least for size in sizes):  # no bool
            raise OptionError(f"{prefix}{name}={given!r}: must be at least {least}")
        if name == "edge_kernel" and isinstance(given, int) and given % 2 == 0:
            raise OptionError(f"{prefix}{name}={given!r}: must be odd")
