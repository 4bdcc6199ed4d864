"""`cnn`: a network tells which of two planes is sharper; planes are then mixed by its verdict.

Liu et al. 2017: a Siamese classifier of patches gives a score map; its mean over overlapping
patches is cut at one half, small regions are removed, a guided filter fits the decision to the
image's edges, and the planes are averaged with these weights. With more than two planes each is
compared with the one before it, and the log odds of these comparisons add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from slidefusion.fuser import Footprint, Fused, Overview, PlaneRange, Planes, option
from slidefusion.fusers import network_tiles
from slidefusion.fusers.white import check_white, white_in, white_level
from slidefusion.value_range import depth_dtype
from slidefusion.weights import fitting_card, load

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Cnn"]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Cnn:
    """Focus decided by a convolutional network (Liu et al. 2017), for two planes or more.

    >>> Cnn(radius=4).footprint.halo
    100
    """

    name: ClassVar[str] = "cnn"
    planes: ClassVar[PlaneRange] = PlaneRange(2)

    weights: str = option("cnn", "name, path or URL of a .safetensors file")
    radius: int = option(8, "of the guided filter, in px", minimum=1, maximum=64)
    eps: float = option(0.1, "regularisation of the guided filter", minimum=1e-6, maximum=1)
    precision: str = option(
        "auto",
        "of the convolutions; auto: bfloat16 where that is faster than float32",
        choices=("auto", "bfloat16", "float32"),
    )
    device: str = option(
        "auto", "cpu, or cuda: a GPU; auto: a GPU if there is one", choices=("auto", "cpu", "cuda")
    )
    white: float | None = option(
        None, "value that counts as white, of uint16 or float32; measured on the slide if None"
    )
    sha256: str | None = option(
        None, "checksum that the file of weights must have; noted at the start if None"
    )

    def __post_init__(self) -> None:
        check_white(self.white)
        device = network_tiles.resolve_device(self.device)
        object.__setattr__(self, "device", device)
        precision = network_tiles.resolve_precision(self.precision, device)
        object.__setattr__(self, "precision", precision)

    @property
    def footprint(self) -> Footprint:
        """The reaches of the score, the vote on small regions and the guided filter add up."""
        from slidefusion.fusers.focus_maps import consistent_reach, score_reach_px

        reach = score_reach_px() + 2 * consistent_reach() + 1 + 2 * self.radius
        return Footprint(halo=reach, period=2, tolerance=1 / 255)

    def prepare(self, overview: Overview) -> Self:
        """With ``white`` as measured on the slide, and the weights that there are now."""
        card = fitting_card(self.weights, fuser=self.name, sha256=self.sha256)
        return replace(
            self,
            white=white_level(overview) if self.white is None else self.white,
            sha256=self.sha256 or card.sha256,
        )

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes of one call, the result included.

        It counts, in float32 values a pixel: the sum or result, the plane that is being weighed
        and what is added of it (4 C), two gray planes and their padded copies (4), the guide and
        the filter (12); and twice what the network needs for a block.
        """
        from slidefusion.nets.working_set import network_bytes

        card = fitting_card(self.weights, fuser=self.name)
        network = network_bytes(card.network, dict(card.config), 300, 1, self.precision)
        pixels = (height + 42) * (width + 42)
        return pixels * 4 * (4 * channels + 16) + 2 * network

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""
        import torch

        from slidefusion.fusers.focus_maps import GuidedFilter, best_plane, chosen_planes
        from slidefusion.fusers.torch_workers import torch_workers

        loaded = load(self.weights, fuser=self.name, device=self.device, sha256=self.sha256)
        network = network_tiles.inference_form(loaded, self.precision)
        white = white_in(stack.dtype, self.white)
        decision = best_plane(self._odds(stack, network, white))
        # Planes are read by this thread alone: a worker that read them might wait for itself, as
        # what they come from may be computed by workers, too.
        work = torch_workers().submit
        height, width = stack.shape[2:]
        chosen = work(chosen_planes, decision, len(stack), height, width).result()
        guide = np.zeros((height, width), np.float32)
        for z, plane in enumerate(stack):
            np.copyto(guide, _gray(plane, white), where=chosen == z)
        smooth = work(GuidedFilter, torch.from_numpy(guide), self.radius, self.eps).result()
        total = np.zeros(stack.shape[1:], np.float32)
        weights = np.zeros((height, width), np.float32)
        for z, plane in enumerate(stack):
            mask = torch.from_numpy((chosen == z).astype(np.float32))
            weight: npt.NDArray[np.float32] = work(smooth, mask).result().numpy()
            weights += weight
            # A running mean: where all planes are equal the result is exactly their value.
            share = np.divide(weight, weights, out=np.zeros_like(weight), where=weights > 0)
            total += share * (plane.astype(np.float32) - total)
        image = _as_dtype(total, stack.dtype)
        return Fused(image, chosen.astype(depth_dtype(len(stack))))

    def _odds(
        self, stack: Planes, network: nn.Module, white: float
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Log odds (Y / 2, X / 2) that each plane is sharper than the one before it."""
        from slidefusion.fusers.focus_maps import focus_map

        before = _gray(stack[0], white)
        for z in range(1, len(stack)):
            now = _gray(stack[z], white)
            yield focus_map(network, before, now)
            before = now


def _gray(plane: npt.NDArray[Any], white: float) -> npt.NDArray[np.float32]:
    """A plane (C, Y, X) as (Y, X) in [0, 1]: RGB by its luma, other channels by their mean."""
    shares = _LUMA if len(plane) == 3 else np.full(len(plane), 1 / len(plane), np.float32)
    gray = np.zeros(plane.shape[1:], np.float32)
    for share, channel in zip(shares / np.float32(white), plane, strict=True):
        gray += share * channel
    return np.clip(gray, 0, 1, out=gray)


def _as_dtype(image: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind == "f":
        return image
    highest = np.float32(np.iinfo(dtype).max)
    image += np.float32(0.5)
    return np.clip(image, 0, highest, out=image).astype(dtype)
