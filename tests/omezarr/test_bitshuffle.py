"""Blosc's shuffled bits, put in order: the same pixels as Blosc's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from slidefusion.omezarr.bitshuffle import GROUP_BYTES, as_words, shuffle, unshuffle

IMAGES, ROWS, GROUPS = 2, 24, 5
ROW_BYTES = GROUPS * GROUP_BYTES
RNG = np.random.default_rng(0)
# One bit each, so that Blosc compresses them: otherwise it stores them as they are.
PIXELS = np.left_shift(1, RNG.integers(0, 8, (IMAGES, ROWS, ROW_BYTES))).astype(np.uint8)
BLOCK_ROWS = (1, 5, 24, 33, 48)


def shuffled(block_rows: int, pixels: np.ndarray = PIXELS) -> np.ndarray:
    """The bits as Blosc shuffles them, in blocks of so many rows."""
    flat, block = pixels.reshape(-1), block_rows * ROW_BYTES
    parts = []
    for start in range(0, flat.size, block):
        part = flat[start : start + block].view(np.uint16)
        encoded = bytearray(blosc.compress(part, b"zstd", 1, blosc.BITSHUFFLE, part.nbytes))
        assert int.from_bytes(encoded[8:12], "little") == part.nbytes  # one block
        assert encoded[2] & 0x06 == 0x04 and encoded[3] == 2  # compressed, shuffled, pairs
        encoded[2] ^= 0x04  # without the flag, Blosc leaves them shuffled
        parts.append(np.frombuffer(blosc.decompress(bytes(encoded)), np.uint8))
    return np.concatenate(parts)


SHUFFLED = {rows: shuffled(rows) for rows in BLOCK_ROWS}


def at_most(limit: int) -> st.SearchStrategy[list[int]]:
    return st.tuples(*[st.integers(0, limit)] * 2).map(sorted)


@settings(max_examples=60)
@given(
    st.sampled_from(BLOCK_ROWS),
    at_most(ROWS),
    at_most(GROUPS),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_equals_blosc(block_rows: int, rows: list[int], groups: list[int], y: int, x: int) -> None:
    top, bottom = rows
    left, right = (at * GROUP_BYTES for at in groups)
    out = np.full((IMAGES, ROWS + 3, ROW_BYTES // 8 + 3), 7, np.uint64)
    shape, wanted = (IMAGES, ROWS, ROW_BYTES), (top, bottom, left, right)
    unshuffle(SHUFFLED[block_rows], block_rows * ROW_BYTES, shape, wanted, out, (y, x))
    expected = np.full_like(out, 7)
    placed = expected.view(np.uint8)[:, y : y + bottom - top, 8 * x : 8 * x + right - left]
    placed[:] = PIXELS[:, top:bottom, left:right]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("block_rows", BLOCK_ROWS)
@pytest.mark.parametrize("top", [0, 24])
def test_the_other_direction_equals_blosc(block_rows: int, top: int) -> None:
    chunks = [PIXELS, PIXELS[:, ::-1], PIXELS[::-1]]
    image = np.zeros((IMAGES, 2 * ROWS, 3 * ROW_BYTES + 8), np.uint8)
    image[:, top : top + ROWS, : 3 * ROW_BYTES] = np.concatenate(chunks, axis=2)
    out = np.zeros((3, PIXELS.size), np.uint8)
    words = as_words(image)
    assert words is not None
    shuffle(words, block_rows * ROW_BYTES, (IMAGES, ROWS, ROW_BYTES), top, out)
    for found, pixels in zip(out, chunks, strict=True):
        assert np.array_equal(found, shuffled(block_rows, pixels))


def test_words_need_contiguous_rows_of_whole_words() -> None:
    assert as_words(np.zeros((2, 3, 12), np.uint8)) is None
    assert as_words(np.zeros((2, 3, 32), np.uint8)[..., :16]) is None
    assert as_words(np.zeros((2, 1, 3, 12), np.uint16)).shape == (2, 3, 3)
