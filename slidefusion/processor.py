"""What this processor multiplies fast, told by its instructions."""

from __future__ import annotations

import functools
from pathlib import Path

__all__ = ["fast_in_bfloat16", "instructions", "multiplies_bytes"]


@functools.cache
def instructions() -> frozenset[str]:
    """The words of Linux's description of the processors; none on other systems."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return frozenset()


def fast_in_bfloat16(words: frozenset[str] | None = None) -> bool:
    """Whether convolutions are faster in bfloat16 than in float32.

    With AVX-512 they take half as long on AMD's processors, and twice as long on Intel's, which
    need AMX for it.

    >>> fast_in_bfloat16(frozenset({"GenuineIntel", "avx512_bf16"}))
    False
    """
    words = instructions() if words is None else words
    fast = {"amx_bf16", "bf16", "svebf16"} | ({"avx512_bf16"} if "AuthenticAMD" in words else set())
    return bool(words & fast)


def multiplies_bytes(words: frozenset[str] | None = None) -> bool:
    """Whether products of 8-bit integers are added up in 32 bits, so exactly.

    Without these instructions (VNNI) oneDNN adds up pairs of products in 16 bits, which overflow.

    >>> multiplies_bytes(frozenset({"avx512f", "avx512_vnni"}))
    True
    """
    words = instructions() if words is None else words
    return bool(words & {"avx512_vnni", "avx_vnni", "amx_int8"})
