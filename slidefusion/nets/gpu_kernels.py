"""What a network does between its convolutions on a GPU, each step in one pass over memory.

A GPU convolves so fast that each further pass over the result takes as long as a convolution of few
channels. PyTorch makes one pass for the bias, one for the activation and one for a sum; here they
are one. This needs Triton, which comes with PyTorch for GPUs, and a C compiler, which Triton calls
once; `works` tells whether both are there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["enlarge_beside", "finish", "halve", "works", "works_on"]

_BLOCK = 4096
_MOST = 2**30
"""Most values of an image: the kernels count up to twice as many, with 32 bits."""


def works_on(image: Tensor) -> bool:
    """Whether these work on such an image, here."""
    return image.device.type != "cpu" and image.numel() <= _MOST and works()


@functools.cache
def works() -> bool:
    """Whether these work here: tried once a process."""
    if not torch.cuda.is_available():
        return False
    try:
        given = torch.ones(1, 8, 2, 2, dtype=torch.bfloat16, device="cuda")
        given = given.contiguous(memory_format=torch.channels_last)
        bias = torch.ones(8, device="cuda", dtype=torch.bfloat16)
        return bool((finish(given, bias, 0.5, None, given.clone()) == 3).all())
    except Exception:  # whatever is missing, PyTorch's own operations do it too
        return False


def finish(
    result: Tensor,
    bias: Tensor | None,
    slope: float | None,
    before: Tensor | None = None,
    after: Tensor | None = None,
) -> Tensor:
    """``leaky_relu(result + bias + before) + after``, (N, C, H, W), channels_last.

    It is written over ``result`` if that is channels_last. If ``slope`` is None there is no
    activation, and other arguments that are None are not added.
    """
    from slidefusion.nets.triton_kernels import finish_kernel

    result = result.contiguous(memory_format=torch.channels_last)  # of one channel it may not be
    count = result.numel()
    unused = result  # of the right type, and not read
    finish_kernel[(-(-count // _BLOCK),)](
        result,
        unused if bias is None else bias,
        unused if before is None else _like(before, result),
        unused if after is None else _like(after, result),
        count,
        0.0 if slope is None else slope,
        channels=result.shape[1],
        has_bias=bias is not None,
        has_before=before is not None,
        has_after=after is not None,
        active=slope is not None,
        block=_BLOCK,
        num_warps=8,
    )
    return result


def _like(other: Tensor, result: Tensor) -> Tensor:
    assert other.shape == result.shape
    return other.contiguous(memory_format=torch.channels_last)


def halve(image: Tensor) -> Tensor:
    """Means of 2 x 2 px: (N, C, H, W) to (N, C, H / 2, W / 2), channels_last."""
    from slidefusion.nets.triton_kernels import halve_kernel

    image = image.contiguous(memory_format=torch.channels_last)
    count, channels, height, width = image.shape
    out = _empty(image, count, channels, height // 2, width // 2)
    halve_kernel[(-(-out.numel() // _BLOCK),)](
        image, out, out.numel(), width // 2, channels, block=_BLOCK, num_warps=8
    )
    return out


def enlarge_beside(deeper: Tensor, skip: Tensor) -> Tensor:
    """``deeper`` enlarged by 2, linearly, and ``skip`` behind its channels, channels_last.

    (N, C, H, W) and (N, D, 2 H, 2 W) to (N, C + D, 2 H, 2 W).
    """
    from slidefusion.nets.triton_kernels import enlarge_kernel

    deeper, skip = (x.contiguous(memory_format=torch.channels_last) for x in (deeper, skip))
    count, more, height, width = skip.shape
    channels = deeper.shape[1]
    out = _empty(skip, count, channels + more, height, width)
    enlarge_kernel[(-(-out.numel() // _BLOCK),)](
        deeper, skip, out, out.numel(), height, width, channels, more, block=_BLOCK, num_warps=8
    )
    return out


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )
