"""A shard as bytes: what zarrs would write for the arrays made here, with fewer copies.

For each chunk zarrs gathers its pixels in memory of its own, encodes them, and joins all of them in
the end; with what zarr does around it, that takes longer than encoding. For chunks that go through
Blosc, which are all that this package writes, a shard is short enough to make here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["NOTHING", "ShardKind"]

NOTHING = np.iinfo(np.uint64).max
"""Offset and size of a chunk that a shard does not hold."""

_CODECS = ["sharding_indexed", "bytes", "blosc", "crc32c"]
"""Of an array; the last one is missing in older stores."""
_CHECKSUM_BYTES = 4
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
"""Blosc's numbers."""


@dataclass(frozen=True)
class ShardKind:
    """How the shards of an array are made."""

    shape: tuple[int, ...]
    """Of the array."""
    shard: tuple[int, ...]
    """Shape of a shard."""
    chunk: tuple[int, ...]
    """Shape of its chunks."""
    dtype: str
    """``"<u2"``: of little-endian pixels."""
    fill_value: float
    """Of pixels that are not there; chunks that hold nothing else are left out."""
    blosc: tuple[str, int, str, int, int]
    """Codec, level, kind of shuffling, bytes of a block (0: Blosc chooses) and of an element."""
    checked: bool
    """Whether each chunk is followed by its CRC-32C."""

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> Self:
        """That of an array, from what its ``zarr.json`` says.

        Raises
        ------
        ValueError
            When this package never wrote such an array.
        """
        try:
            (sharding,) = metadata["codecs"]
            inner = sharding["configuration"]
            pixels, blosc, *check = inner["codecs"]
            names = [codec["name"] for codec in (sharding, pixels, blosc, *check)]
            kind = blosc["configuration"]
            known = names in (_CODECS, _CODECS[:3]) and inner["index_location"] == "end"
            little = pixels.get("configuration", {}).get("endian", "little") == "little"
            settings = kind["cname"], kind["clevel"], kind["shuffle"], kind["blocksize"]
            if known and little:
                return cls(
                    tuple(metadata["shape"]),
                    tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
                    tuple(inner["chunk_shape"]),
                    np.dtype(metadata["data_type"]).newbyteorder("<").str,
                    metadata["fill_value"],
                    (*settings, kind.get("typesize", 1)),
                    len(check) > 0,
                )
        except (KeyError, TypeError, ValueError):
            pass
        raise ValueError("its arrays are not of the kind that is written here")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def shards_of(
        self, index: Sequence[slice], block: npt.NDArray[Any]
    ) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
        """The shards that make up ``index``: their place in the grid, and their part of ``block``.

        The last ones of a row or column may be smaller than a shard.
        """
        spans = [at.indices(length)[:2] for at, length in zip(index, self.shape, strict=True)]
        grid = (
            range(start // side, -(-stop // side))
            for (start, stop), side in zip(spans, self.shard, strict=True)
        )
        for key in itertools.product(*grid):
            first = (k * side - at[0] for k, side, at in zip(key, self.shard, spans, strict=True))
            part = (slice(a, a + side) for a, side in zip(first, self.shard, strict=True))
            yield key, block[tuple(part)]

    def encode(self, block: npt.NDArray[Any]) -> list[bytes]:
        """The shard that holds ``block``, a whole one or what an array ends with, in pieces.

        A shard that holds no chunk is one, too; otherwise one that was lost would look like it.
        """
        from numcodecs import blosc

        name, level, shuffle, block_bytes, element = self.blosc
        chunk = np.full(self.chunk, self.fill_value, self.dtype)
        bits = chunk.reshape(-1).view(f"u{element}")
        fill = bits.copy()
        index = np.full((math.prod(self.grid), 2), NOTHING, "<u8")
        pieces: list[bytes] = []
        offset = 0
        for k, at in enumerate(itertools.product(*map(range, self.grid))):
            spans = (slice(i * n, (i + 1) * n) for i, n in zip(at, self.chunk, strict=True))
            part = block[tuple(spans)]
            if part.shape != self.chunk:
                chunk.fill(self.fill_value)
            chunk[tuple(map(slice, part.shape))] = part
            if bits[0] == fill[0] and np.array_equal(bits, fill):
                continue
            encoded = blosc.compress(bits, name.encode(), level, _SHUFFLES[shuffle], block_bytes)
            size = len(encoded) + _CHECKSUM_BYTES * self.checked
            index[k] = offset, size
            offset += size
            pieces.append(encoded)
            if self.checked:
                pieces.append(_checksum(encoded))
        places = index.tobytes()
        return [*pieces, places, _checksum(places)]


def _checksum(data: bytes) -> bytes:
    """CRC-32C as it is stored."""
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(_CHECKSUM_BYTES, "little")
