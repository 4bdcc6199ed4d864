"""A fusion of the planes by their detail bands, which a generator can begin from.

The undecimated relative of the fuser `lpp`: planes are weighed band by band by how active each is
there, as Burt and Kolczynski (1993) do in a pyramid. What is sharp in one of the planes is then
sharp in one image, and a network has only to restore what is sharp in none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slidefusion.nets.heads import detail_bands, smoothed

__all__ = ["FLOOR", "BandFusion", "fused_plane"]

FLOOR = 0.0005
"""Activity that counts as nothing, in [0, 1]: an eighth of a step of 8 bits."""


class BandFusion(nn.Module):
    """Planes (N, Z, C, H, W) in [0, 1] to the planes with their fusion in the middle.

    >>> BandFusion()(torch.zeros(1, 3, 3, 8, 8)).shape
    torch.Size([1, 4, 3, 8, 8])
    """

    def forward(self, stack: Tensor) -> Tensor:
        """(N, Z + 1, C, H, W) float32, the fusion at index (Z + 1) // 2."""
        stack = stack.float()
        at = (stack.shape[1] + 1) // 2
        return torch.cat([stack[:, :at], fused_plane(stack)[:, None], stack[:, at:]], dim=1)


@torch.no_grad()
def fused_plane(stack: Tensor) -> Tensor:
    """The planes (N, Z, C, H, W) float32 as one: (N, C, H, W), within their range at each pixel.

    In each of the :func:`~slidefusion.nets.heads.detail_bands` the mean of the planes weighted by
    the eighth power of their activity: the mean over channels of the magnitude, smoothed twice as
    the band's own image is. What is left below the bands has the weights of the coarsest.
    """
    count, planes, channels, height, width = stack.shape
    flat = stack.flatten(0, 1)
    bands = detail_bands(flat)
    image = torch.zeros(count, channels, height, width, device=stack.device)
    rest = flat
    shares = torch.empty(0)
    for number, band in enumerate(bands):
        activity = band.abs().mean(dim=1, keepdim=True)
        activity = smoothed(smoothed(activity, 2**number), 2**number).clamp_min(FLOOR)
        activity = activity.reshape(count, planes, 1, height, width)
        shares = activity / activity.amax(dim=1, keepdim=True)
        for _ in range(3):
            shares = shares * shares
        shares = shares / shares.sum(dim=1, keepdim=True)
        image = image + (shares * band.reshape(stack.shape)).sum(dim=1)
        rest = rest - band
    image = image + (shares * rest.reshape(stack.shape)).sum(dim=1)
    return image.clamp(stack.amin(dim=1), stack.amax(dim=1))
