"""Options from text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import slidefusion as sf
from slidefusion.cli.evaluate import labelled_fusers
from slidefusion.cli.fusers import columns
from slidefusion.cli.option_values import free_value, pairs, passed_on, typed_value
from slidefusion.cli.shared_options import numbers
from slidefusion.declarations import options_of
from slidefusion.errors import OptionError


@given(st.integers())
def test_integers(value: int) -> None:
    assert typed_value("f", "o", str(value), "int") == value
    assert free_value(str(value)) == value


@given(st.floats(allow_nan=False))
def test_floats(value: float) -> None:
    assert typed_value("f", "o", repr(value), "float") == value


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("yes", "bool", True),
        ("False", "bool", False),
        ("0", "bool", False),
        ("none", "int or None", None),
        ("3", "int or None", 3),
        ("3", "None or int", 3),
        ("0.5", "int or float", 0.5),
        ("soft", "str", "soft"),
        ("3", "str", "3"),
        ("a=b", "str", "a=b"),
        ("soft", "'soft' or 'max'", "soft"),
        ("None", "str or None", None),
        ("None", "tuple[str, ...] or None", None),
        ("a,b", "list[str]", ["a", "b"]),
        ("1,2", "list[int]", [1, 2]),
        ("1,2.5", "tuple", (1, 2.5)),
        ("(1, 2)", "tuple[int, int]", (1, 2)),
    ],
)
def test_declared_types(text: str, declared: str, value: object) -> None:
    found = typed_value("f", "o", text, declared)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "declared"), [("x", "int"), ("1.5", "int"), ("maybe", "bool"), ("", "float or None")]
)
def test_wrong_types(text: str, declared: str) -> None:
    with pytest.raises(OptionError, match=f"must be {declared}"):
        typed_value("fuser 'f'", "o", text, declared)


def test_pairs() -> None:
    assert pairs(["a-b=1", "c = x=y "]) == {"a_b": "1", "c": "x=y"}
    assert pairs(None) == {}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(OptionError):
            pairs(wrong)


def test_labelled_fusers() -> None:
    """Commas in brackets do not separate fusers; names of options may have digits."""
    found = labelled_fusers("lpp:glass=[1,2],focusgan:sha256=0ab:label=a,lpp:levels=2:label=b")
    assert list(found) == ["lpp glass=[1,2]", "a", "b"]
    assert options_of(found["lpp glass=[1,2]"])["glass"] == (1, 2)
    assert options_of(found["a"])["sha256"] == ("0ab",)
    with pytest.raises(OptionError, match="two are called 'lpp'"):
        labelled_fusers("lpp,lpp")


def test_what_is_passed_on() -> None:
    """``device`` is an option of the fuser and an argument of the verb."""
    assert passed_on(sf.fuse, "lpp", None, "auto") == {"device": "auto"}
    given = ["device=cpu", "levels=2"]
    assert passed_on(sf.plan_fuse, "lpp", given, "auto") == {"device": "cpu", "levels": 2}
    with pytest.raises(OptionError, match="give one of them"):
        passed_on(sf.fuse, "lpp", given, "cuda")

    def verb(levels: int, **options: object) -> None: ...

    with pytest.raises(
        OptionError, match=r"-O levels=… is no option .* an argument of verb itself"
    ):
        passed_on(verb, "lpp", given, "auto")


@given(st.lists(st.integers(-99, 99), min_size=1))
def test_numbers(values: list[int]) -> None:
    assert numbers("--planes", ",".join(map(str, values)), int) == values
    assert numbers("--planes", " , ".join(map(str, values)), int) == values


def test_numbers_refuses() -> None:
    for wrong in ("", ",", "1,a", "1.5"):
        with pytest.raises(OptionError):
            numbers("--planes", wrong, int)
    with pytest.raises(OptionError, match="1 or 2"):
        numbers("--pixel-size-um", "1,2,3", float, (1, 2))
    assert numbers("--planes", None, int) is None


def test_columns() -> None:
    assert columns([("a", "b"), ("long", "c")]) == "a     b\nlong  c"
