"""The header of a chunk that went through Blosc, as far as it is read and changed here."""

from __future__ import annotations

import struct

__all__ = ["AS_IT_IS", "BITS_SHUFFLED", "FLAGS_AT", "HEADER"]

HEADER = struct.Struct("<4B3I")
"""Versions of Blosc and of its codec, flags, and the bytes of an element; then the chunk's bytes
decoded, those of a block, and its bytes encoded, header included."""
FLAGS_AT = 2
"""Where the flags are."""
AS_IT_IS, BITS_SHUFFLED = 0x02, 0x04
"""Flags: what follows is neither shuffled nor compressed; the bits of its elements are shuffled."""
