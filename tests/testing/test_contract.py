"""The contract passes right fusers, and catches each wrong one by the law it breaks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import Phase, settings

from slidefusion import registry
from slidefusion.fuser import PlaneRange
from slidefusion.testing import FuserContract
from slidefusion.testing.stacks import blur, focus_stack

from . import zoo


class TestSharpest(FuserContract):
    fuser_class = zoo.Sharpest
    options: ClassVar = [{}, {"radius": 5}]


class TestOnAGrid(FuserContract):
    fuser_class = zoo.ReliesOnAGrid
    options: ClassVar = [{"period": 4}]
    examples = 8


class TestPrepared(FuserContract):
    fuser_class = zoo.Prepared
    examples = 4


class TestPreparedByChannel(FuserContract):
    fuser_class = zoo.PreparedByChannel
    examples = 4


@dataclass(frozen=True)
class OnePlane(zoo.Sharpest):
    planes: ClassVar[PlaneRange] = PlaneRange(1, 1)


class TestOnePlane(FuserContract):
    fuser_class = OnePlane
    examples = 4


TILES, BEYOND = "tiles_equal_the_whole", "input_beyond_the_halo_changes_nothing"
IMAGE, DEPTH = "image_has_the_shape_dtype_and_range_of_the_input", "depth_is_a_plane_index"
IDENTITY, SHARP = "identical_planes_are_an_identity", "lone_sharp_plane_wins"
OBJECT, COPIES = "is_a_fuser", "options_survive_pickle_and_json"
UNTOUCHED, CALLS = "input_is_untouched", "calls_are_independent"
THREADS, MEMORY = "threads_do_not_interfere", "working_memory_is_within_the_bound"
PREPARE = "prepare_freezes_what_it_learned"

WRONG = [
    (zoo.HaloTooSmall, TILES, "halo of 3 instead of 2 px .* footprint.halo is too small"),
    (zoo.HaloTooSmall, BEYOND, "further than the declared halo of 2 px matters"),
    (zoo.ReliesOnAGrid, TILES, "multiples of 4 instead of 1 px .* footprint.period is too small"),
    (zoo.GlobalStatistics, TILES, "statistics of the whole window"),
    (zoo.GlobalStatistics, BEYOND, "no statistics of the whole window"),
    (zoo.RunningSums, TILES, "running sums of floats"),
    (zoo.Random, TILES, "random"),
    (zoo.Random, CALLS, "keep no state"),
    (zoo.WritesItsInput, UNTOUCHED, "wrote into its input"),
    (zoo.NeedsWriteable, UNTOUCHED, "read-only array of uint8"),
    (zoo.WrongDtype, IMAGE, "returned float64 for"),
    (zoo.Trims, IMAGE, "untrimmed"),
    (zoo.ReturnsAnArray, IMAGE, "returned ndarray; return slidefusion.Fused"),
    (zoo.WrapsAround, IMAGE, "wrap around"),
    (zoo.GivesNaN, IMAGE, "nan"),
    (zoo.CountsFromOne, DEPTH, "0-based"),
    (zoo.FloatDepth, DEPTH, "float32"),
    (zoo.WeightsAboveOne, IDENTITY, "weights sum to 1"),
    (zoo.Blurriest, SHARP, "only sharp one"),
    (zoo.Mean, SHARP, "only sharp one"),
    (zoo.BackwardsDepth, SHARP, "depth map names it"),
    (zoo.DeclaresNoMemory, MEMORY, "working_bytes declares 0"),
    (zoo.ForgetsAMask, MEMORY, "count everything a call allocates"),
    (zoo.HoldsAllPlanes, MEMORY, "read one by one"),
    (zoo.HoldsALock, COPIES, "cannot be pickled"),
    (zoo.PicklesItsWeights, COPIES, "pickles to 8"),
    (zoo.Mutable, COPIES, "frozen=True"),
    (zoo.HasNoEquality, COPIES, "no __eq__"),
    (zoo.ArrayOption, COPIES, "no JSON"),
    (zoo.LosesAnOption, COPIES, "as JSON"),
    (zoo.RemembersTheLast, CALLS, "another result"),
    (zoo.ReturnsItsBuffer, CALLS, "reuses the memory it returned"),
    (zoo.SharesABuffer, THREADS, "shares buffers"),
    (zoo.FootprintIsANumber, OBJECT, "footprint is 16; it must be a Footprint"),
    (zoo.HasNoWorkingBytes, OBJECT, "lacks working_bytes"),
    (zoo.TakesNoPlanes, OBJECT, "no stack has that many"),
    (zoo.CountsBytesInFloat, OBJECT, "number of bytes"),
    (zoo.PrepareChangesIt, PREPARE, "return a copy"),
    (zoo.PreparesByChance, PREPARE, "no random numbers"),
    (zoo.PreparesANumPyNumber, PREPARE, "what prepare gave it is no JSON"),
]


@pytest.fixture
def without_shrinking():
    settings.register_profile("without-shrinking", phases=[Phase.generate])
    before = settings.get_current_profile_name()
    settings.load_profile("without-shrinking")
    yield
    settings.load_profile(before)


def contract_of(fuser_class):
    return type("Contract", (FuserContract,), {"fuser_class": fuser_class})()


@pytest.mark.parametrize(
    ("fuser_class", "law", "message"), WRONG, ids=[f"{w[0].__name__}-{w[1]}" for w in WRONG]
)
def test_a_wrong_fuser_is_caught_and_told_why(fuser_class, law, message, without_shrinking):
    zoo.RemembersTheLast.seen.clear()
    with pytest.raises(AssertionError, match=message) as caught:
        getattr(contract_of(fuser_class), f"test_{law}")({})
    assert fuser_class.__name__ in str(caught.value)


def test_every_law_catches_something():
    laws = {name for name in dir(FuserContract) if name.startswith("test_")}
    named = {f"test_{law}" for _, law, _ in WRONG} | {"test_name_is_the_registered_one"}
    assert laws == named


def register(monkeypatch, name, kind):
    plugin = registry.Plugin(name, "some-dist", "1", f"{kind.__module__}:{kind.__qualname__}")
    monkeypatch.setattr(registry, "fusers", lambda: (plugin,))
    monkeypatch.setattr(registry, "get_fuser", lambda name, **options: kind(**options))


def test_the_registered_name_is_checked(monkeypatch):
    register(monkeypatch, "sharpest", zoo.Sharpest)
    contract_of(zoo.Sharpest).test_name_is_the_registered_one({"radius": 4})
    register(monkeypatch, "blurriest", zoo.Sharpest)
    with pytest.raises(AssertionError, match="registered as 'blurriest'"):
        contract_of(zoo.Sharpest).test_name_is_the_registered_one({})
    register(monkeypatch, "sharpest", zoo.Prepared)
    with pytest.raises(AssertionError, match="option 'threshold' has no help"):
        contract_of(zoo.Prepared).test_name_is_the_registered_one({})


def parametrized(contract, law):
    calls = []
    contract.pytest_generate_tests(
        SimpleNamespace(
            fixturenames=["options"],
            function=SimpleNamespace(__name__=f"test_{law}"),
            parametrize=lambda name, cases: calls.extend(cases),
        )
    )
    return calls


def test_an_exemption_skips_its_law_alone_and_shows_the_reason():
    contract = contract_of(zoo.Mean)
    type(contract).exempt = {SHARP: "it averages"}
    (skipped,), (kept,) = parametrized(contract, SHARP), parametrized(contract, TILES)
    assert skipped.marks[0].kwargs == {"reason": "it averages"}
    assert not kept.marks


@pytest.mark.parametrize("exempt", [{SHARP: " "}, {TILES: "too hard"}, {"no_such_law": "why"}])
def test_an_exemption_needs_a_reason_and_an_exemptable_law(exempt):
    contract = contract_of(zoo.Mean)
    type(contract).exempt = exempt
    with pytest.raises(pytest.UsageError, match=r"only .* may be exempt, and each needs a reason"):
        parametrized(contract, SHARP)


def test_a_contract_without_a_fuser_says_so():
    with pytest.raises(TypeError, match="set fuser_class, or override make_fuser"):
        FuserContract().make_fuser()


def test_make_fuser_may_be_overridden():
    class Contract(FuserContract):
        def make_fuser(self, **options):
            return zoo.Sharpest(radius=7, **options)

    assert Contract().ready_fuser({}).radius == 7


def test_stacks_hold_what_breaks_fusers():
    stack = focus_stack(0, 3, 2, 60, 50, "uint8")
    assert stack.shape == (3, 2, 60, 50) and not stack.flags.writeable
    assert (stack == stack[:1]).all(axis=(0, 1)).sum() > 50  # areas where planes tie
    assert stack.min() == 0 and stack.max() == 255
    assert np.array_equal(stack, focus_stack(0, 3, 2, 60, 50, "uint8"))


def test_blur_is_a_gaussian():
    point = np.zeros((1, 41, 41))
    point[0, 20, 20] = 1
    spread = blur(point, 8)
    x = np.arange(-20, 21)
    assert spread.sum() == pytest.approx(1)
    assert (spread.sum(axis=(0, 1)) * x**2).sum() == pytest.approx(8 / 2)


def test_importing_slidefusion_needs_neither_pytest_nor_hypothesis():
    code = "import slidefusion, sys; assert not {'pytest', 'hypothesis'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
