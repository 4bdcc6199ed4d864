"""`focusgan`: one all-in-focus image from one plane or three, by a generator guided by blur masks.

FFusionCGAN, arXiv:2001.00692: a blur model tells how blurred each pixel of each plane is, and a
U-Net of dense blocks, trained against a discriminator, makes the image from the planes and these
masks. With three planes it mostly chooses; with one it restores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from slidefusion.errors import OptionError, WeightsError
from slidefusion.fuser import option
from slidefusion.fusers import network_tiles
from slidefusion.fusers.generative import GenerativeFuser, as_trained
from slidefusion.weights import Card, blur_model_of, load

if TYPE_CHECKING:
    import torch

__all__ = ["Focusgan"]


@dataclass(frozen=True)
class Focusgan(GenerativeFuser):
    """The paper's method: a generator that sees one to three planes and how blurred they are.

    >>> Focusgan(tile=256, overlap=64).footprint.period
    192
    """

    name: ClassVar[str] = "focusgan"

    blur_mask: bool = option(
        True, "give the generator a blur mask of each plane; False: the paper's ablation"
    )
    keep_masks: bool = option(
        False, "also give the blur masks: written beside the slide as the image 'blur'"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_masks and not self.blur_mask:
            raise OptionError(
                "keep_masks=True with blur_mask=False: without blur masks there are none to keep; "
                "leave one of them out"
            )

    @property
    def _beside(self) -> str | None:
        return "blur" if self.keep_masks else None

    def _usual_name(self, planes: int) -> str:
        return super()._usual_name(planes) + ("" if self.blur_mask else "-nomask")

    def _cards(self, planes: int) -> list[Card]:
        (card,) = super()._cards(planes)
        takes_masks = bool(card.config.get("masks", True))
        if takes_masks != self.blur_mask:
            raise WeightsError(
                f"weights {card.name!r} ({card.where}) were trained "
                f"{'with' if takes_masks else 'without'} blur masks: choose "
                f"blur_mask={takes_masks}, or other weights"
            )
        if not self.blur_mask:
            return [card]
        blur_model = blur_model_of(card)
        if blur_model is None:
            raise WeightsError(
                f"weights {card.name!r} ({card.where}) take blur masks, and their card names no "
                "blur_model: add its name, and put its files beside them"
            )
        return [card, blur_model]

    def _compute(self, planes: int) -> network_tiles.Compute:
        if not self.blur_mask:
            return super()._compute(planes)
        generator, blur_model = self._network(planes), self._blur_model(planes)

        def compute(tiles: torch.Tensor) -> torch.Tensor:
            import torch

            masks = blur_model.blurred(tiles.flatten(0, 1))  # (N * Z, y, x)
            masks = masks.reshape(*tiles.shape[:2], *tiles.shape[3:])
            return torch.cat([generator(as_trained(tiles), as_trained(masks)), masks], dim=1)

        return compute

    def _blur_model(self, planes: int) -> Any:
        card = self._cards(planes)[1]
        expected = self.sha256[1] if self.sha256 and len(self.sha256) > 1 else None
        loaded = load(card.reference, fuser="blur", device=self.device, sha256=expected)
        network_tiles.check_multiple(loaded, self.tile)
        # In 8 bits it would hardly be faster: most of its convolutions are of a single pixel. What
        # "auto" is must not depend on the worker.
        precision = "float32" if self.precision == "int8" else self.precision
        return network_tiles.inference_form(loaded, precision)
