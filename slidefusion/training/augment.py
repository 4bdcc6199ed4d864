"""Augmentation: the same for the planes and the truth of a crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError

__all__ = ["Augmentation"]

Bytes = npt.NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """Turns and mirrors, stain and lamp jitter in optical density, gray, repeated planes, borders.

    Stain jitter scales the optical density of each channel (Beer-Lambert: more or less of a dye)
    and shifts it (a lamp brighter or darker, another white balance). A factor that all channels
    share is drawn as well as one for each.
    """

    flips: bool = True
    """The eight symmetries of the square."""
    stain: float = 0.2
    """Standard deviation of the logarithm of the density factor that all channels share; each has
    one of half of it on top. 0 for none."""
    lamp: float = 0.02
    """Standard deviation of the density shift of each channel."""
    mix: float = 0.0
    """Share of crops whose channels are mixed in optical density, as another set of dyes would."""
    gray: float = 0.15
    """Share of crops turned to gray."""
    repeat: float = 0.1
    """Share of crops of three planes whose outer one repeats the middle one, so that the network
    also serves two planes."""
    border: float = 0.1
    """Share of crops of which a part lies outside the camera's field: dark, or filled with white,
    behind an edge that every plane shows sharply, and so does the truth."""

    def __post_init__(self) -> None:
        for name in ("stain", "lamp", "mix", "gray", "repeat", "border"):
            value, is_share = getattr(self, name), name not in ("stain", "lamp")
            if not 0 <= value < math.inf or (is_share and value > 1):
                raise OptionError(
                    f"augmentation.{name} {value}: must be finite, and at least 0"
                    + (", and at most 1: it is a share" if is_share else "")
                )

    def __call__(
        self, planes: Bytes, truth: Bytes, rng: np.random.Generator
    ) -> tuple[Bytes, Bytes]:
        """Change one crop: planes (Z, 3, h, w) and truth (3, h, w), h = w."""
        images = np.concatenate([planes, truth[None]])
        if self.flips:
            images = np.rot90(images, int(rng.integers(4)), axes=(2, 3))
            if rng.random() < 0.5:
                images = images[..., ::-1]
        if self.gray and rng.random() < self.gray:
            luma = np.einsum("zchw,c->zhw", images.astype(np.float32), _LUMA)
            images = np.repeat(np.rint(luma).astype(np.uint8)[:, None], 3, axis=1)
            images = self._stain(images, rng, shared=True)
        else:
            if self.mix and rng.random() < self.mix:
                images = _mixed(images, rng)
            images = self._stain(images, rng, shared=False)
        if self.border and rng.random() < self.border:
            images = _bordered(images, rng)
        planes, truth = images[:-1], images[-1]
        if len(planes) == 3 and rng.random() < self.repeat:
            planes = planes[[1, 1, 2]] if rng.random() < 0.5 else planes[[0, 1, 1]]
        return np.ascontiguousarray(planes), np.ascontiguousarray(truth)

    def _stain(self, images: Bytes, rng: np.random.Generator, *, shared: bool) -> Bytes:
        if self.stain == 0 and self.lamp == 0:
            return images
        common = rng.normal(0.0, self.stain)
        levels = np.arange(256, dtype=np.float64)
        density = -np.log10(np.maximum(levels, 1.0) / 255.0)
        out = np.empty_like(images)
        table = None
        for channel in range(images.shape[1]):
            if table is None or not shared:
                factor = math.exp(common + rng.normal(0.0, self.stain / 2))
                shift = rng.normal(0.0, self.lamp)
                values = 255.0 * 10.0 ** -(density * factor + shift)
                table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
            out[:, channel] = table[images[:, channel]]
        return out


def _mixed(images: Bytes, rng: np.random.Generator) -> Bytes:
    """(N, 3, h, w) with each channel's optical density a random mean of all three."""
    density = -np.log10(np.maximum(images, 1).astype(np.float32) / 255.0)
    shares = rng.dirichlet(np.full(3, 0.7), size=3).astype(np.float32)
    mixed: npt.NDArray[np.float32] = 255.0 * 10.0 ** -np.einsum("oc,nchw->nohw", shares, density)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def _bordered(images: Bytes, rng: np.random.Generator) -> Bytes:
    """(N, 3, h, w) with one flat value beyond a straight edge or outside a circle.

    The edge lies somewhere in the crop, as steep as pixels allow or a pixel or two wide.
    """
    side = images.shape[-1]
    y, x = np.mgrid[:side, :side].astype(np.float32)
    edge_y, edge_x = rng.uniform(0.1, 0.9, 2) * side
    straight = rng.random() < 0.5
    angle = float(rng.integers(4) * math.pi / 2 if straight else rng.uniform(0, 2 * math.pi))
    along = (y - edge_y) * math.sin(angle) + (x - edge_x) * math.cos(angle)
    if straight:
        beyond = along
    else:
        radius = side * math.exp(rng.uniform(math.log(0.5), math.log(8.0)))
        centre_y, centre_x = edge_y - radius * math.sin(angle), edge_x - radius * math.cos(angle)
        beyond = np.hypot(y - centre_y, x - centre_x) - radius
    steep = rng.random() < 0.5
    share = (beyond > 0) if steep else np.clip(beyond / rng.uniform(0.7, 3.0) + 0.5, 0.0, 1.0)
    value = max(0.0, rng.uniform(-40.0, 40.0)) if rng.random() < 0.8 else 255.0
    filled = images + (value - images.astype(np.float32)) * share.astype(np.float32)
    return np.asarray(np.rint(filled), np.uint8)
