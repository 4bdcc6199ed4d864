"""Black stays black: what light cannot have left, a network must not draw.

Light is never negative, and blur only spreads it. So a pixel that is black in a plane, however far
out of focus, has no light around it that blur could have carried away. A generator does not know
that. Beside a bright edge (the border of a camera's round field, a cell in fluorescence) it leaves
a faint glow, which is hardly seen but is all that there is in such a place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["keep_black"]

_BLACK = 2 / 255
"""Light up to which a place is black, noise and the traces of a lossy compression included."""


def keep_black(planes: Tensor, source: Tensor, image: Tensor) -> Tensor:
    """``image`` (N, C, H, W), with the pixels of ``source`` where no plane has any light.

    ``planes`` (N, Z, C, H, W); all in [0, 1]. The light of a pixel is that of its brightest plane
    and channel, in the mean of 3 x 3 px. Up to 2/255 the pixel is black. From there to twice as
    much light ``image`` takes over gradually; a brighter pixel is not changed by a single bit.

    >>> import torch
    >>> planes = torch.zeros(1, 1, 3, 8, 8)
    >>> planes[..., 4:] = 1.0
    >>> glow = planes[:, 0] + 0.01
    >>> keep_black(planes, planes[:, 0], glow)[0, 0, 0]
    tensor([0.0000, 0.0000, 0.0000, 0.0100, 1.0100, 1.0100, 1.0100, 1.0100])
    """
    import torch
    from torch.nn import functional

    if planes.device.type == "cpu" and float(planes[:, 0].amin()) >= 2 * _BLACK:
        return image  # nothing is black, as nearly everywhere on a slide: told in no time
    light = planes.amax(dim=(1, 2)).unsqueeze(1)
    light = functional.avg_pool2d(light, 3, stride=1, padding=1, count_include_pad=False)
    share = (light / _BLACK - 1).clamp(0.0, 1.0)
    return torch.where(share < 1, source + share * (image - source), image)
