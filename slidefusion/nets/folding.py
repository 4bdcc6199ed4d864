"""Batch norm costs nothing at inference: it is folded into the convolution before it."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norm"]

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy for inference in which each convolution has taken in the batch norm behind it.

    Only pairs that follow each other in an ``nn.Sequential`` are folded; in these networks all do.
    Fold in float32 and convert afterwards, so that the folded weights are rounded only once.
    A network without batch norm comes back as an unchanged copy.

    Raises
    ------
    ValueError
        The network is in training mode, where batch norm depends on the batch.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> fold_batch_norm(network)[1]
    Identity()
    """
    if network.training:
        raise ValueError("batch norm can be folded in eval mode only; call network.eval() first")
    folded = copy.deepcopy(network)
    for parent in folded.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for index in range(len(parent) - 1):
            layer, norm = parent[index], parent[index + 1]
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and isinstance(
                norm, nn.BatchNorm2d
            ):
                parent[index] = fuse_conv_bn_eval(
                    layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d)
                )
                parent[index + 1] = nn.Identity()
    return folded
