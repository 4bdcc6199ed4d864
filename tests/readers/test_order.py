"""The order of plane files: pure functions of their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidefusion.readers.order import (
    gap_in,
    natural_order,
    one_series,
    pattern,
    suggested_glob,
)


@given(
    st.sets(st.integers(0, 10**6), min_size=1, max_size=20),
    st.sampled_from(["z", "scan-", "a b_", "plane+", "slide 3 z"]),
    st.randoms(use_true_random=False),
)
def test_unsigned_numbers_sort_by_value(numbers: set[int], prefix: str, random) -> None:
    wanted = [f"dir-7/{prefix}{n}.png" for n in sorted(numbers)]
    shuffled = wanted.copy()
    random.shuffle(shuffled)
    assert natural_order(shuffled) == wanted
    assert one_series(wanted) is None


@given(st.sets(st.integers(-50, 50), min_size=1, max_size=20))
def test_focus_offsets_sort_by_value_with_their_sign(numbers: set[int]) -> None:
    wanted = [f"smear/{n}.bmp" for n in sorted(numbers)]
    assert natural_order(sorted(wanted)) == wanted


def test_signs_after_a_prefix_count_when_some_names_have_none() -> None:
    assert natural_order(["z0.png", "z-1.png", "z1.png", "z-2.png"]) == [
        "z-2.png",
        "z-1.png",
        "z0.png",
        "z1.png",
    ]


@pytest.mark.parametrize(
    "names",
    [
        [f"scan.1.{k}.png" for k in range(1, 13)],
        [f"2.{k}.png" for k in range(1, 13)],
        [f"slide.2024.{k}.png" for k in range(1, 12)],
        [f"s1.{k}.png" for k in range(8, 12)],
        [f"z{position:g}.png" for position in (0.25, 0.5, 0.75, 1, 1.25)],
        [f"z{position:.2f}.png" for position in (0.25, 0.5, 0.75, 1, 1.25)],
        ["z1.05.png", "z1.10.png", "z1.5.png"],
        ["z0.02.png", "z0.03.png", "z0.1.png"],
        [f"z{k / 100:g}.png" for k in range(1, 11)],
        ["z0.75.png", "z1.5.png", "z2.25.png"],
        ["z_-3.png", "z_-2.png", "z_-1.png"],
        [f"z={offset}.png" for offset in (-12, -3, -1)],
        [f"2024113012345678{k:04d}.png" for k in range(4)],
    ],
)
def test_what_numbers_mean(names: list[str]) -> None:
    assert natural_order(sorted(names, key=lambda name: name[::-1])) == names
    assert one_series(names) is None


def test_decimals_and_numbered_folders() -> None:
    assert natural_order(["z10.5.png", "z2.25.png"]) == ["z2.25.png", "z10.5.png"]
    assert natural_order(["z10/a.svs", "z9/a.svs"]) == ["z9/a.svs", "z10/a.svs"]
    assert one_series(["z9/a.svs", "z10/a.svs"]) is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["edf_reference.png", "z0.png", "z1.png"], "edf_reference.png does not fit"),
        (["far.png", "near.png"], "no number in common"),
        (["s1_z1.png", "s1_z2.png", "s2_z1.png", "s2_z2.png"], "more than one number"),
        (["a/1.png", "b/1.png"], "no number in common"),
        ([f"s{s}.{z}.png" for s in (1, 2) for z in range(8, 13)], "more than one number"),
        (["z01.png", "z1.png", "z2.png"], "z01.png, z1.png have the same numbers"),
    ],
)
def test_names_that_are_not_clearly_one_stack(names: list[str], reason: str) -> None:
    assert reason in str(one_series(natural_order(names)))


def test_numbers_that_grow_together_are_one_stack() -> None:
    names = ["t1201_z1.png", "t1205_z2.png", "t1300_z3.png"]
    assert one_series(names) is None


def test_pattern_and_glob() -> None:
    assert pattern("s0/z07.PNG") == "s#/z#.png"
    assert suggested_glob(["s0/edf.png", "s0/z0.png", "s0/z1.png"]) == "s0/z*.png"
    assert suggested_glob(["c0_z0.tif", "c0_z1.tif", "c1_z0.tif"]) == "c0_z*.tif"
    assert suggested_glob(["z0_t7.tif", "z1_t7.tif", "a.tif"]) == "z*_t7.tif"
    assert suggested_glob(["a.tif", "b.tif"]) == "a.tif"


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (["z1", "z2", "z4"], "z2.png is followed by z4.png"),
        (["-4", "-2", "2", "4"], "-2.png is followed by 2.png"),
        (["z0", "z2", "z4"], None),
        (["z1"], None),
        (["a", "b"], None),
        (["z0.33", "z0.67", "z1.00"], None),
        (["s_z0_0.00um", "s_z1_0.67um", "s_z2_1.33um"], None),
        (["-2.03", "-1.02", "0.00"], None),
        (["z1_t100", "z2_t203", "z3_t305"], None),
        (["z1_t100", "z2_t203", "z4_t305"], "z2_t203.png is followed by z4_t305.png"),
        (["IMG_20240512_101158", "IMG_20240512_101200", "IMG_20240512_101202"], None),
    ],
)
def test_gaps_are_of_whole_numbers_that_count(names: list[str], gap: str | None) -> None:
    assert gap_in([f"{name}.png" for name in names]) == gap
