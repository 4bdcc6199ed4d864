"""Which instructions mean what; the words are those of /proc/cpuinfo."""

from __future__ import annotations

import pytest

from slidefusion.processor import fast_in_bfloat16, instructions, multiplies_bytes


@pytest.mark.parametrize(
    ("words", "bfloat16", "exact_bytes"),
    [
        ("AuthenticAMD avx2 avx512f avx512_vnni avx512_bf16", True, True),  # Zen 4
        ("AuthenticAMD avx2", False, False),  # Zen 3
        ("GenuineIntel avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8", True, True),
        ("GenuineIntel avx512f avx512_vnni avx512_bf16", False, True),  # AMX hidden
        ("GenuineIntel avx2 avx_vnni", False, True),
        ("GenuineIntel avx512f", False, False),  # Skylake
        ("asimd bf16 i8mm", True, False),  # ARM
        ("", False, False),
    ],
)
def test_what_is_fast(words: str, bfloat16: bool, exact_bytes: bool) -> None:
    flags = frozenset(words.split())
    assert (fast_in_bfloat16(flags), multiplies_bytes(flags)) == (bfloat16, exact_bytes)


def test_this_processor_is_asked_once() -> None:
    assert instructions() is instructions()
    assert fast_in_bfloat16() == fast_in_bfloat16(instructions())
