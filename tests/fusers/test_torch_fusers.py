"""The torch back ends give the bytes of the compiled kernels, whatever the options and the size.

They run on the GPU if there is one, else on the CPU.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from slidefusion.errors import OptionError
from slidefusion.fuser import Fuser
from slidefusion.fusers import torch_device
from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.fusers.lpp import Lpp
from slidefusion.fusers.wt import Wt
from slidefusion.testing import FuserContract

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from slidefusion.fusers.torch_selection import rule_for  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "torch-cpu"
FUSERS: list[Any] = [Lpp, Wt, Dtcwt]
BOTH: dict[str, Any] = {"activity": "magnitude", "selection": "max", "lowpass": "mean"}
OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (Lpp, {}),
    (Lpp, {"levels": 1, "window": 0, "clamp": False}),
    (Lpp, {"levels": 4, "selection": "max", "power": 32}),
    (Lpp, {"levels": 2, "lowpass": "mean"}),
    (Wt, {}),
    (Wt, {"wavelet": "haar", "levels": 2, "consistency": 3, "clamp": False, **BOTH}),
    (Wt, {"wavelet": "db7", "levels": 2, "window": 0, "activity": "magnitude"}),
    (Wt, {"wavelet": "rbio3.1", "levels": 4, "lowpass": "mean", "power": 1}),
    (Dtcwt, {}),
    (Dtcwt, {"filters": "legall", "qshift": "qshift_06", "levels": 2, "clamp": False, **BOTH}),
    (Dtcwt, {"filters": "near_sym_b", "qshift": "qshift_d", "activity": "magnitude"}),
    (Dtcwt, {"filters": "antonini", "qshift": "qshift_b", "levels": 1, "lowpass": "mean"}),
]


def random_stack(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    values = np.random.default_rng(shape[-1]).random(shape, dtype=np.float32)
    stack = values if dtype is np.float32 else (values * np.iinfo(dtype).max).astype(dtype)
    stack.flags.writeable = False
    return stack


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("fuser_class", "options"), OPTIONS)
def test_gives_the_bytes_of_the_compiled_kernels(
    fuser_class: Any, options: dict[str, Any], dtype: Any
) -> None:
    for shape in ((3, 3, 64, 80), (4, 1, 33, 47), (1, 4, 1, 1), (2, 2, 1, 70)):
        stack = random_stack(shape, dtype)
        expected = fuser_class(**options)(stack)
        fused = fuser_class(**options, device=DEVICE)(stack)
        assert not fused.maps and not expected.maps
        for name in ("image", "depth", "confidence"):
            one, other = getattr(fused, name), getattr(expected, name)
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


@pytest.mark.parametrize("fuser_class", FUSERS)
def test_more_planes_than_a_byte_counts(fuser_class: Any) -> None:
    stack = np.full((260, 1, 2, 8), 99, np.uint8)
    stack[258] = random_stack((1, 2, 8), np.uint8)
    expected = fuser_class(levels=1, window=0)(stack)
    fused = fuser_class(levels=1, window=0, device=DEVICE)(stack)
    assert fused.depth.dtype == np.uint16 and (fused.depth == 258).any()
    assert np.array_equal(fused.depth, expected.depth)
    assert np.array_equal(fused.image, expected.image)


class TestLppContract(FuserContract):
    fuser_class: ClassVar[Callable[..., Fuser]] = Lpp
    options: ClassVar = [{"device": DEVICE}]
    examples = 2


class TestWtContract(TestLppContract):
    fuser_class = Wt


class TestDtcwtContract(TestLppContract):
    fuser_class = Dtcwt


class _Peak(TorchDispatchMode):  # type: ignore[misc]
    """The most bytes of tensors alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.bytes = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        self.most = max(self.most, self.bytes)
        return result

    def _note(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        pointer, size = storage.data_ptr(), storage.nbytes()
        self.bytes += size if pointer not in self.alive else 0
        self.alive[pointer] = self.alive.get(pointer, 0) + 1
        weakref.finalize(tensor, self._forget, pointer, size)

    def _forget(self, pointer: int, size: int) -> None:
        self.alive[pointer] -= 1
        if not self.alive[pointer]:
            del self.alive[pointer]
            self.bytes -= size


def peak_bytes(fuser: Any, stack: np.ndarray) -> int:
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        fuser(stack)
        return torch.cuda.max_memory_allocated() - before + 2 * stack[0].nbytes
    with _Peak() as peak:
        fuser(stack)
    return peak.most


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize(("fuser_class", "options"), [OPTIONS[k] for k in (0, 4, 5, 7, 9)])
def test_memory_is_within_the_bound_and_independent_of_the_planes(
    fuser_class: Any, options: dict[str, Any], dtype: Any
) -> None:
    fuser = fuser_class(**options, background="fuse", device=DEVICE)
    stack = random_stack((4, 3, 120, 200), dtype)
    fuser(stack[..., :16, :16])
    two, four = (peak_bytes(fuser, stack[:planes]) for planes in (2, 4))
    assert four <= two + 1024
    assert four <= fuser.working_bytes(*stack.shape)


def test_device_is_an_option_of_the_fuser_and_travels_with_it() -> None:
    for fuser_class in FUSERS:
        assert fuser_class().device == "cpu"
        fuser = fuser_class(device="torch-cpu")
        assert pickle.loads(pickle.dumps(fuser)).device == "torch-cpu"


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delitem(torch_device.sys.modules, "distributed", raising=False)
    with pytest.raises(OptionError, match=r"finds no NVIDIA GPU .* python -m pip install torch"):
        Lpp(device="cuda")


def test_with_a_cluster_the_workers_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(torch_device.sys.modules, "distributed", object())  # type: ignore[arg-type]
    fuser = Wt(device="cuda", background="fuse")
    with pytest.raises(OptionError, match="finds no NVIDIA GPU"):
        fuser(random_stack((2, 1, 8, 8), np.uint8))


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="python -m pip install torch"):
        Dtcwt(device="torch-cpu")
    monkeypatch.setitem(torch_device.sys.modules, "torch", None)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="cannot be imported"):
        torch_device.torch_device("torch-cpu")
    assert Dtcwt().device == "cpu"


def test_rules_are_plain_numbers() -> None:
    """Others, NumPy's above all, cannot be a part of what torch.compile makes a graph of."""
    rule = rule_for("soft", 8, 1, 0.5)
    assert {type(value) for value in (*rule.window, rule.floor)} == {float}
