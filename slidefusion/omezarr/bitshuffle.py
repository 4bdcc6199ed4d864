"""Compiled loops for Blosc's bit shuffling: of an image's pixels, and back of those wanted.

Blosc undoes it for whole chunks, in a pass of its own, and takes longer for that than LZ4 for
decoding. Any pixels can be had from the shuffled bits by themselves, so here that goes straight
into the window, and a halo of 64 px costs a quarter of a chunk of 256 px. The other way bits are
shuffled straight out of the image, so that a chunk's pixels are gathered and shuffled at once.

What the bits are. A block of elements of two bytes is stored as 16 planes: plane ``8 p + k`` has
bit ``k`` of byte ``p`` of all elements, eight elements a byte, the first one in the lowest bit. So
16 elements (32 bytes of pixels) are two bytes of each plane, 256 bits in all. They are loaded as
four words of 64 bits, each with 16 bits of four planes; four numbers say where a bit is in them::

    word (p, k2)    bit (k1 k0, j, e2 e1 e0)        k of 0-7, element 8 j + e

and in the pixels, as four words of eight bytes, the same bit is at::

    word (j, e2)    bit (e1 e0 p, k2 k1 k0)

Each digit that changes places is an exchange of bits by shifting and masking: within a word, or
between two words, which costs half.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = [
    "GROUP_BYTES",
    "PAIR_BYTES",
    "WORD_BYTES",
    "as_words",
    "can_be_shuffled",
    "shuffle",
    "unshuffle",
]

PAIR_BYTES = 2
"""Of an element whose bits are shuffled here: a pixel of two bytes, or two of one."""

GROUP_BYTES = 32
"""Of pixels: two bytes of each plane of bits. What is wanted starts and ends on multiples."""
WORD_BYTES = 8
"""Of what is written at once; rows of the memory that is written to are multiples."""

_STRIP = 256
"""Groups that are done together: what is kept of them fits the first cache."""

U = np.uint64
ONE, TWO, THREE, FOUR = U(1), U(2), U(3), U(4)
SHIFT_J, P_AND_J = U(8), U(0x00FF00FF00FF00FF)
SHIFT_E2, K2_AND_E2 = U(4), U(0x0F0F0F0F0F0F0F0F)
# Exchanging digit a with the lower digit b moves bits by 2**a - 2**b, those where a is 0 and b 1.
SHIFT_E1, K1_AND_E1 = U(2**5 - 2**1), U(0x00000000CCCCCCCC)
SHIFT_E0, K0_AND_E0 = U(2**4 - 2**0), U(0x0000AAAA0000AAAA)


def can_be_shuffled(row_bytes: int, block_bytes: int) -> bool:
    """Whether chunks of such rows and blocks suit these loops.

    That is, blocks hold whole rows, and rows whole groups; and this machine's lowest byte is the
    first.

    >>> can_be_shuffled(256, 256 * 256), can_be_shuffled(40, 4000)
    (True, False)
    """
    whole = row_bytes % GROUP_BYTES == 0 < block_bytes and block_bytes % row_bytes == 0
    return whole and sys.byteorder == "little"


def as_words(array: npt.NDArray[Any]) -> npt.NDArray[np.uint64] | None:
    """The memory of an array (..., Y, X) as images (N, Y, words) of uint64.

    None if rows end within a word, or the array is not contiguous.
    """
    if array.shape[-1] * array.itemsize % WORD_BYTES or not array.flags.c_contiguous:
        return None
    images = array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:])
    return images.view(np.uint8).view(np.uint64)


@kernel
def unshuffle(
    shuffled: Any,
    block: int,
    shape: tuple[int, int, int],
    source: tuple[int, int, int, int],
    out: Any,
    target: tuple[int, int],
) -> None:
    """Write the pixels of a rectangle of a chunk into ``out``.

    ``shuffled`` are the bytes (n,) of a chunk of ``shape`` (images, rows, bytes a row), in blocks
    of ``block`` bytes, the last one shorter; a block holds whole rows, a row whole groups. The
    rectangle ``source`` is (top, bottom, left, right): rows, then bytes that are multiples of a
    group. It goes to ``target`` (y, x) of ``out`` (images, Y, X), whose columns are words of
    uint64.
    """
    images, height, row_bytes = shape
    top, bottom, left, right = source
    row_groups = row_bytes // GROUP_BYTES
    strip = max(1, _STRIP // row_groups)
    words = np.empty((4, strip * row_groups), np.uint64)
    for image in range(images):
        y = top
        while y < bottom:
            row = image * height + y
            start = row * row_bytes // block * block
            end = min(start + block, shuffled.size)
            planes = shuffled[start:end].view(np.uint16).reshape(16, -1)
            rows = min(strip, bottom - y, end // row_bytes - row)
            first = (row * row_bytes - start) // GROUP_BYTES
            last = first + rows * row_groups
            for k in range(4):
                load_planes(
                    planes[4 * k][first:last],
                    planes[4 * k + 1][first:last],
                    planes[4 * k + 2][first:last],
                    planes[4 * k + 3][first:last],
                    words[k],
                )
            exchange(
                words,
                (U(rows), U(row_groups)),
                (U(left // GROUP_BYTES), U(right // GROUP_BYTES)),
                out,
                (U(image), U(target[0] + y - top), U(target[1])),
            )
            y += rows


@kernel
def load_planes(a: Any, b: Any, c: Any, d: Any, out: Any) -> None:
    """Put 16 bits of each of four planes (n,) together: ``out`` (n or more,) uint64."""
    for j in range(a.size):
        out[j] = U(a[j]) | U(b[j]) << U(16) | U(c[j]) << U(32) | U(d[j]) << U(48)


@kernel
def exchange(
    words: Any, size: tuple[Any, Any], span: tuple[Any, Any], out: Any, at: tuple[Any, Any, Any]
) -> None:
    """Bring the bits of ``words`` (4, n) in order and write them to ``out`` from ``at`` on.

    ``size`` is (rows, groups a row), ``span`` the first and last group of a row that is wanted; all
    numbers are unsigned, so that none needs to be tested for being negative.
    """
    rows, row_groups = size
    begin, end = span
    image, y, x = at
    first, second, third, fourth = words[0], words[1], words[2], words[3]
    for i in range(rows):
        for j in range(end - begin):
            k = i * row_groups + begin + j
            a, b = between(first[k], second[k], SHIFT_E2, K2_AND_E2)
            c, d = between(third[k], fourth[k], SHIFT_E2, K2_AND_E2)
            a, c = between(a, c, SHIFT_J, P_AND_J)
            b, d = between(b, d, SHIFT_J, P_AND_J)
            column = x + FOUR * j
            out[image, y + i, column] = within(a)
            out[image, y + i, column + ONE] = within(b)
            out[image, y + i, column + TWO] = within(c)
            out[image, y + i, column + THREE] = within(d)


@kernel
def shuffle(pixels: Any, block: int, shape: tuple[int, int, int], top: int, out: Any) -> None:
    """Shuffle the bits of a row of chunks as Blosc would: the other direction of `unshuffle`.

    Chunks of ``shape`` (images, rows, bytes a row) lie side by side in ``pixels`` (images, Y, X),
    whose columns are words of uint64, from row ``top`` on. ``out`` (chunks, n) are the bytes of
    each, in blocks of ``block`` bytes. Whole rows of the image are read from left to right; a
    chunk alone, in pieces of 256 bytes, takes a third longer.
    """
    images, height, row_bytes = shape
    row_words = row_bytes // WORD_BYTES
    strip = max(1, _STRIP * GROUP_BYTES // row_bytes)
    gathered = np.empty((out.shape[0], strip * row_words), np.uint64)
    words = np.empty((4, strip * row_words // 4), np.uint64)
    for image in range(images):
        y = 0
        while y < height:
            row = image * height + y
            start = row * row_bytes // block * block
            end = min(start + block, out.shape[1])
            rows = min(strip, height - y, end // row_bytes - row)
            first = (row * row_bytes - start) // GROUP_BYTES
            last = first + rows * row_bytes // GROUP_BYTES
            gather(pixels[image], (top + y, top + y + rows), row_words, gathered)
            for chunk in range(out.shape[0]):
                planes = out[chunk][start:end].view(np.uint16).reshape(16, -1)
                part(gathered[chunk], words)
                for k in range(4):
                    store_planes(
                        words[k],
                        planes[4 * k][first:last],
                        planes[4 * k + 1][first:last],
                        planes[4 * k + 2][first:last],
                        planes[4 * k + 3][first:last],
                    )
            y += rows


@kernel
def gather(pixels: Any, rows: tuple[int, int], columns: int, out: Any) -> None:
    """Copy rows of ``pixels`` (Y, X) to ``out`` (chunks, n), so many columns to each chunk.

    Digits of each word are exchanged on the way.
    """
    for i in range(rows[1] - rows[0]):
        line = pixels[rows[0] + i]
        for chunk in range(out.shape[0]):
            source = line[chunk * columns : (chunk + 1) * columns]
            place = out[chunk][i * columns : (i + 1) * columns]
            for j in range(columns):
                place[j] = within(source[j])


@kernel
def part(gathered: Any, words: Any) -> None:
    """Exchange digits between the four words of each group: (4 n,) to ``words`` (4, n).

    What `exchange` does, backwards: each of its steps undoes itself. In a loop by itself, since one
    that also gathers is not compiled to vector instructions, and takes five times as long.
    """
    first, second, third, fourth = words[0], words[1], words[2], words[3]
    for k in range(U(gathered.size // 4)):
        a, b = gathered[FOUR * k], gathered[FOUR * k + ONE]
        c, d = gathered[FOUR * k + TWO], gathered[FOUR * k + THREE]
        a, c = between(a, c, SHIFT_J, P_AND_J)
        b, d = between(b, d, SHIFT_J, P_AND_J)
        a, b = between(a, b, SHIFT_E2, K2_AND_E2)
        c, d = between(c, d, SHIFT_E2, K2_AND_E2)
        first[k], second[k], third[k], fourth[k] = a, b, c, d


@kernel
def store_planes(words: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Put each quarter of ``words`` (n or more,) into a plane (n,) of its own."""
    for j in range(a.size):
        word = words[j]
        a[j] = word
        b[j] = word >> U(16)
        c[j] = word >> U(32)
        d[j] = word >> U(48)


@kernel
def between(low: Any, high: Any, shift: Any, mask: Any) -> Any:
    """Exchange the digit that tells two words apart with one of their bits' digits."""
    different = ((low >> shift) ^ high) & mask
    return low ^ (different << shift), high ^ different


@kernel
def within(word: Any) -> Any:
    """Exchange two pairs of digits of a word's bits."""
    different = ((word >> SHIFT_E1) ^ word) & K1_AND_E1
    word = word ^ different ^ (different << SHIFT_E1)
    different = ((word >> SHIFT_E0) ^ word) & K0_AND_E0
    return word ^ different ^ (different << SHIFT_E0)
