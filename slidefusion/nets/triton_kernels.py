"""Kernels for a GPU in Triton's language; only to be imported where Triton is there.

Triton compiles what it reads, and takes no annotations but its own.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

__all__ = ["enlarge_kernel", "finish_kernel", "halve_kernel"]


@triton.jit
def finish_kernel(
    result,
    bias,
    before,
    after,
    count,
    slope,
    channels: tl.constexpr,
    has_bias: tl.constexpr,
    has_before: tl.constexpr,
    has_after: tl.constexpr,
    active: tl.constexpr,
    block: tl.constexpr,
):
    """``leaky_relu(result + bias + before) + after`` over ``result``, all (N, H, W, channels)."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    value = tl.load(result + at, mask=inside).to(tl.float32)
    if has_bias:
        value += tl.load(bias + at % channels, mask=inside).to(tl.float32)
    if has_before:
        value += tl.load(before + at, mask=inside).to(tl.float32)
    if active:
        value = tl.where(value > 0, value, value * slope)
    if has_after:
        value += tl.load(after + at, mask=inside).to(tl.float32)
    tl.store(result + at, value.to(result.dtype.element_ty), mask=inside)


@triton.jit
def halve_kernel(
    image,
    out,
    count,
    width: tl.constexpr,
    channels: tl.constexpr,
    block: tl.constexpr,
):
    """Means of 2 x 2 px: ``out`` (N, H, width, channels) of an image of twice the sides."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    channel, place = at % channels, at // channels
    row, column = place // width, place % width
    first = ((2 * row) * (2 * width) + 2 * column) * channels + channel
    below = first + 2 * width * channels
    total = tl.load(image + first, mask=inside).to(tl.float32)
    total += tl.load(image + first + channels, mask=inside).to(tl.float32)
    total += tl.load(image + below, mask=inside).to(tl.float32)
    total += tl.load(image + below + channels, mask=inside).to(tl.float32)
    tl.store(out + at, (total * 0.25).to(out.dtype.element_ty), mask=inside)


@triton.jit
def enlarge_kernel(
    deeper,
    skip,
    out,
    count,
    height: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    more: tl.constexpr,
    block: tl.constexpr,
):
    """``deeper`` (N, height / 2, width / 2, channels) enlarged by 2, linearly, beside ``skip``.

    ``skip`` is (N, height, width, more) and ``out`` (N, height, width, channels + more).
    """
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    channel, place = at % (channels + more), at // (channels + more)
    line, x = place // width, place % width
    number, y = line // height, line % height
    is_skip = channel >= channels
    copied = tl.load(skip + place * more + channel - channels, mask=inside & is_skip)
    # An even place lies a quarter before its pixel, an odd one a quarter behind.
    near_y, near_x = y // 2, x // 2
    far_y = tl.minimum(tl.maximum(near_y - 1 + 2 * (y % 2), 0), height // 2 - 1)
    far_x = tl.minimum(tl.maximum(near_x - 1 + 2 * (x % 2), 0), width // 2 - 1)
    top = number * (height // 2)
    wanted = inside & (channel < channels)
    value = 0.5625 * tl.load(
        deeper + ((top + near_y) * (width // 2) + near_x) * channels + channel, mask=wanted
    ).to(tl.float32)
    value += 0.1875 * tl.load(
        deeper + ((top + near_y) * (width // 2) + far_x) * channels + channel, mask=wanted
    ).to(tl.float32)
    value += 0.1875 * tl.load(
        deeper + ((top + far_y) * (width // 2) + near_x) * channels + channel, mask=wanted
    ).to(tl.float32)
    value += 0.0625 * tl.load(
        deeper + ((top + far_y) * (width // 2) + far_x) * channels + channel, mask=wanted
    ).to(tl.float32)
    result = tl.where(is_skip, copied.to(tl.float32), value)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)
