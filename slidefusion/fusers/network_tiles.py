"""Runs networks over the tiles of a window: in which form, where, and how many at a time.

How tiles are cut out and merged is in :mod:`slidefusion.fusers.tiled_window`. On the CPU each batch
is computed by one thread (see `torch_workers`), while the threads of the tasks read, merge and
write.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, WeightsError
from slidefusion.fuser import Planes
from slidefusion.fusers.tiled_window import RGB, Batch, Job, More, TiledWindow
from slidefusion.processor import fast_in_bfloat16, multiplies_bytes
from slidefusion.weights.card import Card, card_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from slidefusion.weights import LoadedWeights

__all__ = [
    "check_multiple",
    "check_ranges",
    "fuse_tiles",
    "inference_form",
    "resolve_device",
    "resolve_precision",
]

FloatArray = npt.NDArray[np.float32]
Compute = Callable[["torch.Tensor"], "torch.Tensor"]


def resolve_device(device: str) -> str:
    """``"cuda"`` or ``"cpu"``: for ``"auto"`` the GPU if this machine has one.

    Raises
    ------
    OptionError
        When ``"cuda"`` is asked for where there is no GPU.
    """
    from slidefusion.fusers.torch_device import check_device

    if device == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return device


def resolve_precision(precision: str, device: str) -> str:
    """For ``"auto"``: bfloat16 where the processor multiplies it faster than float32.

    Raises
    ------
    OptionError
        When ``"int8"`` is asked for where it cannot be computed.
    """
    if precision == "int8":
        _check_int8(device)
    if precision != "auto":
        return precision
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if fast_in_bfloat16() else "float32"


def _check_int8(device: str) -> None:
    from slidefusion.nets.int8_layers import byte_convolution

    fault = ""
    if device != "cpu":
        fault = f"with device={device!r}: GPUs have none of it here; choose device='cpu'"
    elif not multiplies_bytes():
        fault = "needs a processor that adds up products of bytes in 32 bits (VNNI); choose 'auto'"
    elif byte_convolution() is None:
        fault = "needs a PyTorch with oneDNN; choose 'auto'"
    if fault:
        raise OptionError(f"precision='int8' {fault}")


def check_ranges(card: Card, precision: str) -> None:
    """Refuse weights that do not say what 8 bits need to know: `slidefusion.nets.input_ranges`.

    Raises
    ------
    WeightsError
        Naming their card.
    """
    if precision == "int8" and not card.facts.get("input_ranges"):
        raise WeightsError(
            f"{card_of(card.where)} has no input_ranges, which precision='int8' needs: choose "
            "another precision, or let slidefusion.training.input_ranges.add_to_card write them"
        )


def _input_ranges(card: Card, network: nn.Module) -> dict[str, torch.Tensor]:
    from slidefusion.nets.input_ranges import from_text

    check_ranges(card, "int8")
    try:
        return from_text(card.facts["input_ranges"], network)
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{card_of(card.where)} has input_ranges that are not of its network ({error}): get "
            "weights and card again, or choose another precision"
        ) from error


_FORMS: dict[tuple[int, str, str], tuple[nn.Module, nn.Module]] = {}
_FORMING = threading.Lock()


def inference_form(loaded: LoadedWeights, precision: str) -> nn.Module:
    """The loaded network as it is run in that precision, made once a process.

    Raises
    ------
    OptionError, WeightsError
        When ``"int8"`` is asked of a processor, or of weights, that it cannot be had of.
    """
    import torch

    from slidefusion.nets.inference import for_inference

    ranges = json.dumps(loaded.card.facts.get("input_ranges")) if precision == "int8" else ""
    key = id(loaded.network), precision, ranges
    with _FORMING:
        if key not in _FORMS:
            network: Any = loaded.network
            if hasattr(network, "merged"):  # the same function with less work
                network = network.merged()
            if precision == "int8":
                _check_int8(loaded.device.type)
                made = for_inference(network, torch.float32, _input_ranges(loaded.card, network))
            else:
                made = for_inference(network, getattr(torch, precision))
            _FORMS[key] = loaded.network, made  # the first is kept so that its id stays its own
            while len(_FORMS) > 12:
                _FORMS.pop(next(iter(_FORMS)))
        return _FORMS[key][1]


def check_multiple(loaded: LoadedWeights, tile: int) -> None:
    """Refuse a tile that the loaded network cannot halve as often as it does.

    Raises
    ------
    OptionError
        Naming the sides that it takes.
    """
    multiple = loaded.network.multiple
    assert isinstance(multiple, int)
    if tile % multiple:
        lower = max(multiple, tile // multiple * multiple)
        raise OptionError(
            f"tile={tile} with the weights of {loaded.card.name!r}: their network takes multiples "
            f"of {multiple} px; choose tile={lower} or {lower + multiple}"
        )


def fuse_tiles(
    stack: Planes,
    compute: Compute,
    *,
    tile: int,
    overlap: int,
    batch: int,
    device: str,
    white: float,
    more: More | None = None,
    maps: int = 0,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """The image (C, Y, X) of a window, each tile made by ``compute``, and so many maps (M, Y, X).

    ``compute`` takes tiles (N, Z, 3, tile, tile) in [0, 1] and gives images, and behind their
    channels the maps, (N, 3 + M, tile, tile) in [0, 1], all float32 on ``device``; on the CPU it is
    called by several threads at once. Only tiles that touch the window's core are computed and only
    their pixels are read; outside the core the result is 0. Stacks that are not RGB are fused
    channel by channel: each is repeated three times, and the three results are averaged; maps are
    those of all channels averaged. ``white`` is the value that counts as 1 in the image; in maps
    255 does. What lies above it, or below 0, is cut off for ``compute`` and put back after it.
    ``more`` makes of the planes of a tile (Z, 3, tile, tile) one image (3, tile, tile), which
    ``compute`` gets behind them.
    """
    if stack.dtype != np.uint8:  # uint8 holds nothing beyond white
        compute = partial(_with_the_rest, compute, len(stack))
    window = TiledWindow(stack, tile, overlap, white, more, maps, device)
    computed = _on_processors if device == "cpu" else _on_gpu
    for job, result in computed(window.batches(batch), compute, device):
        window.merge(job, result)
    return window.image, window.maps


def _with_the_rest(compute: Compute, planes: int, tiles: torch.Tensor) -> torch.Tensor:
    """``compute`` of the tiles cut to [0, 1]; what was cut off is added to the image again: above 1
    that of the brightest plane, below 0 the mean of all planes."""
    given = tiles[:, :planes]
    above = (given - 1).clamp_min(0).amax(dim=1)
    below = given.clamp_max(0).mean(dim=1)
    made = compute(tiles.clamp(0, 1)).float()
    made[:, :RGB] += above + below
    return made


def _on_processors(
    batches: Iterator[Batch], compute: Compute, device: str
) -> Iterator[tuple[Job, FloatArray]]:
    """Every job with its image and maps (3 + M, tile, tile), in order."""
    import torch

    from slidefusion.fusers.torch_workers import in_order

    def make(batch: Batch) -> tuple[list[Job], FloatArray]:
        jobs, cut_out = batch
        with torch.inference_mode():
            return jobs, compute(torch.from_numpy(cut_out())).float().numpy()

    for jobs, made in in_order(make, batches):
        yield from zip(jobs, made, strict=True)


def _on_gpu(
    batches: Iterator[Batch], compute: Compute, device: str
) -> Iterator[tuple[Job, FloatArray]]:
    """The same on a GPU, where one batch is computed while the one before it is merged and the next
    one is cut out."""
    import torch

    waiting: tuple[list[Job], torch.Tensor] | None = None
    for jobs, cut_out in batches:
        given = torch.from_numpy(cut_out()).pin_memory().to(device, non_blocking=True)
        with torch.inference_mode():
            made = compute(given)
        if waiting is not None:
            yield from _fetched(*waiting)
        waiting = jobs, made
    if waiting is not None:
        yield from _fetched(*waiting)


def _fetched(jobs: list[Job], made: torch.Tensor) -> Iterator[tuple[Job, FloatArray]]:
    yield from zip(jobs, made.float().cpu().numpy(), strict=True)
