"""Where the torch back ends of the fusers compute, and how planes get there and the image back.

A fuser's option ``device`` names the place. ``"cpu"`` means the compiled kernels, which do without
this module. ``"cuda"`` is one NVIDIA GPU, the one that ``CUDA_VISIBLE_DEVICES`` puts first.
``"torch-cpu"`` runs the code for the GPU on the CPU, for checking. Every back end does each
addition, multiplication, division and root as an operation of its own, in the order of the compiled
kernels. IEEE 754 defines the result of each, so all three places give the same bytes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError
from slidefusion.fuser import Planes
from slidefusion.tiling import round_up
from slidefusion.transforms.laplacian import pad_to_period

if TYPE_CHECKING:
    import torch

__all__ = ["DEVICES", "Range", "check_device", "image_of", "torch_device", "uploaded"]

DEVICES = ("cpu", "cuda", "torch-cpu")
"""Allowed values of the option ``device``."""

SLOTS = 2
"""Planes on their way at once: one is computed with while the next one is copied."""


def check_device(device: str) -> None:
    """Refuse at once a ``device`` that this process cannot use.

    A process with a Dask cluster need not have a GPU itself; its workers are asked when they run.

    Raises:
        OptionError: torch is not installed, or finds no CUDA GPU.
    """
    if device == "cpu":
        return
    if importlib.util.find_spec("torch") is None:
        raise OptionError(
            f"device={device!r} needs PyTorch, which is not installed: run "
            "python -m pip install torch, or choose device='cpu'"
        )
    if device == "cuda" and "distributed" not in sys.modules:
        torch_device(device)


def torch_device(device: str) -> torch.device:
    """The torch device that a fuser's option ``device`` means.

    Raises:
        OptionError: torch is not installed or finds no CUDA GPU, or the name is unknown.
    """
    try:
        import torch
    except ImportError as error:
        raise OptionError(
            f"device={device!r} needs PyTorch, which cannot be imported ({error}): run "
            "python -m pip install torch, or choose device='cpu'"
        ) from error
    if device == "torch-cpu":
        return torch.device("cpu")
    if device != "cuda":
        raise OptionError(f"device={device!r} is no torch device: allowed are {DEVICES[1:]}")
    if not torch.cuda.is_available():
        built = torch.version.cuda or "none"
        raise OptionError(
            f"device='cuda': PyTorch {torch.__version__} (built for CUDA {built}) finds no NVIDIA "
            "GPU here; look at nvidia-smi and CUDA_VISIBLE_DEVICES, install a CUDA build with "
            "python -m pip install torch, or choose device='cpu'"
        )
    return torch.device("cuda", torch.cuda.current_device())


def uploaded(stack: Planes, period: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The planes (C, Y, X) of ``stack`` (Z, C, Y, X) on ``device``, padded to ``period``.

    They are uint8, int32 (of uint16) or float32, valid until the next one is asked for. On a GPU
    plane z + 1 is read from the store and copied, out of pinned memory and on a stream of its own,
    while plane z is computed with; the memory is that of two planes, however many there are.
    """
    import torch

    _, channels, height, width = stack.shape
    shape = channels, round_up(height, period), round_up(width, period)
    # torch knows little of uint16: its bits travel as int16 and are widened on the device.
    kind = {"u1": torch.uint8, "u2": torch.int16, "f4": torch.float32}[stack.dtype.str[1:]]
    on_gpu = device.type == "cuda"
    slots = min(SLOTS, len(stack)) if on_gpu else 1
    staging = [torch.empty(shape, dtype=kind, pin_memory=on_gpu) for _ in range(slots)]
    if not on_gpu:
        for z in range(len(stack)):
            _fill(staging[0], stack[z], period)
            yield _widened(staging[0])
        return
    there = [torch.empty(shape, dtype=kind, device=device) for _ in range(slots)]
    computing = torch.cuda.current_stream(device)
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    copied = [torch.cuda.Event() for _ in range(slots)]  # type: ignore[no-untyped-call]
    used = [torch.cuda.Event() for _ in range(slots)]  # type: ignore[no-untyped-call]
    for event in used:
        event.record(computing)  # `there` may lie in memory that earlier work still reads

    def copy(z: int) -> None:
        slot = z % slots
        copied[slot].synchronize()  # the host waits here, so it is never more than two planes ahead
        _fill(staging[slot], stack[z], period)
        with torch.cuda.stream(copying):
            copying.wait_event(used[slot])
            there[slot].copy_(staging[slot], non_blocking=True)
            copied[slot].record(copying)

    copy(0)
    for z in range(len(stack)):
        slot = z % slots
        computing.wait_event(copied[slot])
        yield _widened(there[slot])  # the consumer queues its work, then asks for the next
        used[slot].record(computing)
        if z + 1 < len(stack):
            copy(z + 1)


def _fill(staging: torch.Tensor, plane: npt.NDArray[Any], period: int) -> None:
    padded = pad_to_period(plane, period)
    np.copyto(staging.numpy(), padded.view(np.int16) if padded.dtype.str[1:] == "u2" else padded)


def _widened(plane: torch.Tensor) -> torch.Tensor:
    import torch

    return plane.to(torch.int32) & 0xFFFF if plane.dtype == torch.int16 else plane


class Range:
    """The lowest and the highest value of the planes at each pixel, for ``clamp``."""

    def __init__(self) -> None:
        self.lowest: torch.Tensor | None = None
        """(C, Y, X), of the planes' dtype; None before the first plane."""
        self.highest: torch.Tensor | None = None
        """(C, Y, X), like `lowest`."""

    def widen(self, plane: torch.Tensor) -> None:
        """Make the range contain ``plane`` (C, Y, X)."""
        import torch

        if self.lowest is None or self.highest is None:
            self.lowest, self.highest = plane.clone(), plane.clone()
            return
        torch.minimum(self.lowest, plane, out=self.lowest)
        torch.maximum(self.highest, plane, out=self.highest)


def image_of(
    image: torch.Tensor, limits: Range, dtype: np.dtype[Any], height: int, width: int
) -> npt.NDArray[Any]:
    """Clamp ``image`` (C, Y, X) to ``limits``, round unless ``dtype`` is float, trim, fetch.

    Without limits integers are clipped to the range of their dtype. Returns (C, height, width).
    """
    import torch

    image = image[:, :height, :width]
    if limits.lowest is not None and limits.highest is not None:
        low, high = (limit[:, :height, :width] for limit in (limits.lowest, limits.highest))
        image = torch.maximum(image, low.to(torch.float32))
        image = torch.minimum(image, high.to(torch.float32))
    elif dtype.kind != "f":
        image = image.clamp(0, float(np.iinfo(dtype).max))
    if dtype.kind != "f":
        # Half is added and the rest cut off, like the compiled kernels; int32 holds all of uint16.
        image = (image + 0.5).to(torch.uint8 if dtype == np.uint8 else torch.int32)
    fetched: npt.NDArray[Any] = image.contiguous().cpu().numpy()
    return fetched if fetched.dtype == dtype else fetched.astype(dtype)
