"""How weights start: by the fan-in of each layer, or from the normal distribution of the GANs."""

from __future__ import annotations

from torch import nn

__all__ = ["kaiming_start", "normal_start"]

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_DEVIATION = 0.02  # of the GANs


def kaiming_start(network: nn.Module, slope: float = 0.0) -> None:
    """Draw all weights so that activations keep their variance (He et al. 2015, equation 15).

    ``slope``: that of the LeakyReLU or PReLU in use; 0 for ReLU. Biases become 0.
    """
    for layer in network.modules():
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.kaiming_normal_(layer.weight, a=slope, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def normal_start(network: nn.Module) -> None:
    """Draw all weights from N(0, 0.02), batch norm scales from N(1, 0.02) (Isola et al. 2017)."""
    for layer in network.modules():
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.normal_(layer.weight, 0.0, _DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, _DEVIATION)
