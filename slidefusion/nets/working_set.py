"""How much memory a network needs, known from its shapes alone."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from slidefusion.nets import build

__all__ = ["network_bytes"]


class _Watch(TorchDispatchMode):
    """Follows which tensors are alive; on the ``meta`` device they have shapes and no memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, tuple[Any, int]] = {}
        self.peak_values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, torch.Tensor):
                storage = part.untyped_storage()
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self.alive[reference.cdata] = reference, storage.nbytes() // part.element_size()
        gone = [key for key, (reference, _) in self.alive.items() if reference.expired()]
        for key in gone:
            del self.alive[key]
        values = sum(count for _, count in self.alive.values())
        self.peak_values = max(self.peak_values, values)
        return result


@functools.lru_cache(maxsize=64)
def _values(name: str, config: str, side: int, batch: int) -> tuple[int, int]:
    """Parameters, and most activations alive at once, for a batch of square images."""
    with torch.device("meta"):
        network = build(name, **json.loads(config)).eval()
        settings: Any = network.config  # with the defaults that a card may leave out
        multiple: Any = network.multiple
        side = -(-side // multiple) * multiple
        channels = settings.get("channels", 1)
        planes = settings.get("planes")
        if planes is not None:  # a generator
            stack = torch.empty(batch, planes, channels, side, side)
            inputs = [stack, stack[:, :, 0]]
        else:  # a blur model, or a classifier of two images
            inputs = [torch.empty(batch, channels, side, side)] * (
                1 if "channels" in settings else 2
            )
    with torch.inference_mode(), _Watch() as watch:
        network(*inputs)
    return sum(p.numel() for p in network.parameters()), watch.peak_values


def network_bytes(name: str, config: dict[str, Any], side: int, batch: int, dtype: str) -> int:
    """Upper bound of what a network holds in memory for a batch of images of ``side`` px.

    It counts the weights twice (as loaded, and as they are run in ``dtype``), and the activations
    with a quarter on top, since oneDNN copies those that it needs in another layout. ``"int8"``
    keeps float32 between convolutions, and what is rounded for one is a quarter of it.

    >>> network_bytes("generator", {"planes": 1, "channels": 3, "width": 8}, 64, 1, "float32") > 2e6
    True
    """
    parameters, peak = _values(name, json.dumps(config, sort_keys=True), side, batch)
    each: int = 4 if dtype == "int8" else getattr(torch, dtype).itemsize
    return parameters * (4 + each) + peak * each * 5 // 4
