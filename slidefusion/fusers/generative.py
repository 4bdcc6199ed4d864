"""What the fusers share whose image is made by a generator network, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, WeightsError
from slidefusion.fuser import Footprint, Fused, Overview, PlaneRange, Planes, option
from slidefusion.fusers import network_tiles
from slidefusion.fusers.darkness import keep_black
from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.fusers.grain import FAINT, keep_grain, noise_level
from slidefusion.fusers.lpp import Lpp
from slidefusion.fusers.tiled_window import RGB
from slidefusion.fusers.white import check_white, white_in, white_level
from slidefusion.weights import Card, fitting_card, load, look_up

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["GenerativeFuser", "as_trained"]

_BATCH = {"cpu": 1, "cuda": 8}
_GRAIN_OF_NOISY_PLANE = 1 / 3
"""Share of the grain of a single noisy plane that is kept. It has a ninth of the noise's energy; an
image without any noise looks painted. Several noisy planes keep none, since their measured scores
hardly changed with it."""


@dataclass(frozen=True)
class GenerativeFuser:
    """Options and work of a fuser that is one generator; subclasses add its name."""

    name: ClassVar[str]
    planes: ClassVar[PlaneRange] = PlaneRange(1, 3)

    weights: str = option(
        "auto",
        "name, path or URL of a .safetensors file; auto: those that ship for so many planes, "
        "PACK:auto: those of that pack",
    )
    tile: int = option(512, "side of the tiles that the network sees, in px", minimum=16)
    overlap: int = option(
        128, "px that neighbouring tiles share and are blended over; at most half", minimum=0
    )
    batch: int = option(0, "tiles computed at a time; 0: 1 on a CPU, 8 on a GPU", minimum=0)
    precision: str = option(
        "auto",
        "of the convolutions; auto: bfloat16 where that is faster than float32; int8: faster still "
        "on a CPU, and nearly as good",
        choices=("auto", "bfloat16", "float32", "int8"),
    )
    device: str = option(
        "auto", "cpu, or cuda: a GPU; auto: a GPU if there is one", choices=("auto", "cpu", "cuda")
    )
    grain: float | None = option(
        None,
        "share of fine detail and noise that is kept where nothing was restored; None: all on a "
        "slide whose noise is too weak to be seen, on others a third of a single plane's; 0: "
        "the network's image, without what it erased, either",
        minimum=0,
        maximum=1,
    )
    noise: float | None = option(
        None,
        "standard deviation of the slide's fine noise, as a fraction of white; measured on the "
        "slide if None",
        minimum=0,
        maximum=1,
    )
    white: float | None = option(
        None, "value that counts as white, of uint16 or float32; measured on the slide if None"
    )
    sha256: tuple[str, ...] | None = option(
        None, "checksums that the files of weights must have; noted at the start if None"
    )

    def __post_init__(self) -> None:
        if self.overlap > self.tile // 2:
            raise OptionError(
                f"overlap={self.overlap} with tile={self.tile}: a tile overlaps each neighbour by "
                f"at most half of itself; choose at most {self.tile // 2}"
            )
        check_white(self.white)
        device = network_tiles.resolve_device(self.device)
        object.__setattr__(self, "device", device)
        precision = network_tiles.resolve_precision(self.precision, device)
        object.__setattr__(self, "precision", precision)
        if isinstance(self.sha256, list):  # all that JSON has
            object.__setattr__(self, "sha256", tuple(self.sha256))

    @property
    def footprint(self) -> Footprint:
        """A pixel follows from the tiles around it; their grid is the period."""
        return Footprint(halo=self.tile - 1, period=self.tile - self.overlap, tolerance=1 / 255)

    def prepare(self, overview: Overview) -> Self:
        """With ``white`` and ``noise`` as measured on the slide, and the weights there are now.

        Raises
        ------
        WeightsError, UnknownNameError
            When there are no weights that fit.
        """
        planes = self._input_planes(overview.thumbnail.shape[0])
        sha256 = self.sha256[0] if self.sha256 else None
        fitting_card(self._reference(planes), fuser=self.name, planes=planes, sha256=sha256)
        cards = self._cards(planes)
        network_tiles.check_ranges(cards[0], self.precision)
        white = white_level(overview) if self.white is None else self.white
        noise = self.noise
        if noise is None and self.grain != 0:
            noise = noise_level(overview.patches, white_in(overview.patches.dtype, white))
        return replace(
            self,
            white=white,
            noise=noise,
            sha256=tuple(card.sha256 for card in cards) if self.sha256 is None else self.sha256,
        )

    def working_bytes(self, planes: int, channels: int, height: int, width: int) -> int:
        """Upper bound of the memory in bytes of one call, the result included.

        It counts the result (for float32), two rows of tiles of every plane and of the sums, the
        tiles of a batch, what the networks need for them, and the fusion that grain is taken from,
        on the host and the device together. All calls of a process together compute as many batches
        at once as there are processors, so each call counts one batch. A single call computes
        several, in the memory that other calls would have needed.
        """
        from slidefusion.nets.working_set import network_bytes

        batch = self.batch or _BATCH[self.device]
        maps = planes if self._beside else 0
        strips = 2 * (planes * channels + channels + maps) * self.tile * width * 4
        tiles = batch * (3 * planes + 12) * 3 * self.tile**2 * 4
        networks = [
            network_bytes(card.network, dict(card.config), self.tile, batch, self.precision)
            for card in self._cards(planes)
        ]
        sharpest = 0
        if planes > 1 and self._keeps:
            transform = self._transform(planes)
            sharpest = batch * transform.working_bytes(planes, RGB, self.tile, self.tile)
        result = (channels * 4 + maps) * height * width
        return result + strips + tiles + sum(networks) + sharpest

    def __call__(self, stack: Planes, /) -> Fused:
        """Fuse ``stack`` (Z, C, Y, X)."""
        several = len(stack) > 1
        image, maps = network_tiles.fuse_tiles(
            stack,
            self._finished(self._compute(len(stack)), len(stack)),
            more=self._sharpest if self._keeps and several else None,
            tile=self.tile,
            overlap=self.overlap,
            batch=self.batch or _BATCH[self.device],
            device=self.device,
            white=white_in(stack.dtype, self.white),
            maps=len(stack) if self._beside else 0,
        )
        return Fused(image, maps={self._beside: maps} if self._beside else {})

    @property
    def _noise(self) -> float:
        """That of the slide. One whose noise was not measured counts as one with hardly any."""
        return FAINT if self.noise is None else self.noise

    def _grain_of(self, planes: int) -> float:
        """The share that is kept of so many planes."""
        if self.grain is not None:
            return self.grain
        if self._noise <= FAINT:
            return 1.0
        return _GRAIN_OF_NOISY_PLANE if planes == 1 else 0.0

    @property
    def _keeps(self) -> bool:
        """Whether anything of the planes' own detail is given back."""
        return self.grain != 0

    def _transform(self, planes: int) -> Dtcwt | Lpp:
        """The fuser of the image that the detail of so many planes is taken from.

        If grain is kept it is `dtcwt`, the best there is (on Cervix93 .0005 of SSIM better than
        `lpp`). If only what was erased is added again it is `lpp`, which shows that as well in a
        fifth of the time. Both run on the CPU even if the network runs on a GPU, since a GPU is
        idle most of the time with one tile at a time.
        """
        if self._grain_of(planes):
            return Dtcwt(background="fuse", device="cpu")
        return Lpp(background="fuse", device="cpu")

    def _sharpest(self, planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The planes (Z, C, y, x) of a tile, each place as the sharpest shows it: (C, y, x)."""
        return self._transform(len(planes))(planes).image

    def _finished(self, compute: network_tiles.Compute, planes: int) -> network_tiles.Compute:
        """``compute`` with what is kept of the planes' detail, and maps only if they are kept.

        If there are several planes, the tiles that it is given hold their fusion by `_sharpest`
        behind them. Where a map says that a single plane is blurred it has noise and no grain, and
        none is added. Where every plane is blurred nothing can have been erased either. Where every
        plane is black, so is the image.
        """

        def finished(tiles: torch.Tensor) -> torch.Tensor:
            import torch

            made = compute(tiles[:, :planes]).float()
            image, maps = made[:, :RGB], made[:, RGB:]
            if self._keeps:
                fused, share = planes > 1, self._grain_of(planes)
                sharp = 1 - maps.amin(dim=1, keepdim=True) if maps.shape[1] else 1.0
                grain = share if fused else share * sharp
                image = keep_grain(tiles[:, -1], image, self._noise, grain, sharp, fused=fused)
                image = keep_black(tiles[:, :planes], tiles[:, -1], image)
            return torch.cat([image, maps], dim=1) if self._beside else image

        return finished

    @property
    def _beside(self) -> str | None:
        """Name of what is made beside the image, one for each plane; None if nothing is."""
        return None

    def _input_planes(self, planes: int) -> int:
        """Planes that the network is given: two are given as (a, b, b)."""
        return 1 if planes == 1 else 3

    def _reference(self, planes: int) -> str:
        pack, colon, name = self.weights.rpartition(":")
        return pack + colon + self._usual_name(planes) if name == "auto" else self.weights

    def _usual_name(self, planes: int) -> str:
        """What weights for so many planes are called in a pack."""
        return f"{self.name}-{planes}"

    def _cards(self, planes: int) -> list[Card]:
        """The cards of all networks that are needed for so many planes."""
        card = look_up(self._reference(self._input_planes(planes)))
        return [card]

    def _compute(self, planes: int) -> network_tiles.Compute:
        """The function that makes images (N, 3, y, x) of tiles (N, Z, 3, y, x). Where the network
        is given blur masks, those of each plane follow the colours in its result."""
        generator = self._network(planes)

        def compute(tiles: torch.Tensor) -> torch.Tensor:
            return _tensor(generator(as_trained(tiles)))

        return compute

    def _network(self, planes: int) -> nn.Module:
        loaded = load(
            self._reference(self._input_planes(planes)),
            fuser=self.name,
            planes=self._input_planes(planes),
            device=self.device,
            sha256=self.sha256[0] if self.sha256 else None,
        )
        network_tiles.check_multiple(loaded, self.tile)
        if loaded.card.config.get("channels", RGB) != RGB:
            raise WeightsError(
                f"weights {loaded.card.name!r} take {loaded.card.config['channels']} channels; "
                "fusers give a network RGB, or gray three times: train it with channels=3"
            )
        return network_tiles.inference_form(loaded, self.precision)


def as_trained(planes: torch.Tensor) -> torch.Tensor:
    """Two planes (N, 2, ...) of (a, b) as (a, b, b); one and three as they are."""
    return planes[:, [0, 1, 1]] if planes.shape[1] == 2 else planes


def _tensor(result: Any) -> torch.Tensor:
    import torch

    assert isinstance(result, torch.Tensor)
    return result
