"""What every painter of a structure needs: its random numbers, a canvas, and a colour."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slidefusion.phantom.settings import PhantomSettings, Rgb
from slidefusion.phantom.structures import Sheet, Structure, deepest_um, random_source

__all__ = ["Artist", "Canvas"]

Floats = npt.NDArray[np.float32]
Colour = npt.NDArray[np.float64]


class Canvas:
    """Two images (amount, depth) of zeros on the slide's pixel grid, around a centre."""

    def __init__(
        self, y_um: float, x_um: float, reach_um: float, mpp_um: float, deepest_um: float
    ) -> None:
        self.deepest = deepest_um
        self.y = math.floor((y_um - reach_um) / mpp_um)
        self.x = math.floor((x_um - reach_um) / mpp_um)
        side = math.ceil(2 * reach_um / mpp_um) + 2
        self.step = mpp_um
        self.top = (self.y + 0.5) * mpp_um - y_um
        self.left = (self.x + 0.5) * mpp_um - x_um
        self.amount = np.zeros((side, side), np.float32)
        self.depth = np.zeros((side, side), np.float32)

    @property
    def frame(self) -> tuple[float, float, float]:
        """Position of the first pixel's centre relative to the canvas's centre, and step, in um."""
        return self.top, self.left, self.step

    def sheet(
        self, colour: Colour, amount: Floats | None = None, depth: Floats | None = None
    ) -> list[Sheet]:
        """What was drawn (or ``amount`` and ``depth``), cut to where there is stain; [] if none."""
        amount = self.amount if amount is None else amount
        depth = self.depth if depth is None else depth
        filled = amount > 0
        rows = np.flatnonzero(filled.any(axis=1))
        if not len(rows):
            return []
        columns = np.flatnonzero(filled.any(axis=0))
        y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        amount, depth = amount[y0:y1, x0:x1].copy(), depth[y0:y1, x0:x1]
        depth = np.clip(depth, -self.deepest, self.deepest)
        used = depth[filled[y0:y1, x0:x1]]
        return [
            Sheet(
                self.y + y0,
                self.x + x0,
                amount,
                depth,
                colour.astype(np.float32),
                float(used.min()),
                float(used.max()),
            )
        ]


class Artist:
    """One structure with the settings and its own random numbers."""

    def __init__(self, item: Structure, settings: PhantomSettings) -> None:
        self.item = item
        self.settings = settings
        self.rng = random_source(*item.key)

    def between(self, low: float, high: float) -> float:
        """A random number from ``low`` to ``high``."""
        return low + (high - low) * float(self.rng.random())

    def normal(self, limit: float = 2.5) -> float:
        """A standard normal number, clipped to ``limit``."""
        return float(np.clip(self.rng.standard_normal(), -limit, limit))

    def chance(self, share: float) -> bool:
        """True with the probability ``share``."""
        return bool(self.rng.random() < share)

    def canvas(self, reach_um: float, y_um: float = 0.0, x_um: float = 0.0) -> Canvas:
        """A canvas around a point relative to the structure's centre."""
        y, x = self.item.y_um + y_um, self.item.x_um + x_um
        return Canvas(y, x, reach_um, self.settings.mpp_um, deepest_um(self.settings))

    def texture(self) -> tuple[float, float]:
        """A place in the textures."""
        return self.between(0, 250), self.between(0, 250)

    def slope(self) -> tuple[float, float]:
        """The structure's slope in y and x with its own variation, um a um."""
        tilt = self.settings.tilt
        y, x = (float(np.clip(s + tilt * self.normal(), -0.35, 0.35)) for s in self.item.slope)
        return y, x

    def mix(self, density: float, *parts: tuple[Rgb, float], jitter: float = 0.03) -> Colour:
        """(C,) optical density of mixed stains; its mean over red, green, blue is ``density``."""
        mixed = sum((np.array(stain) * share for stain, share in parts), np.zeros(3))
        mixed = mixed * np.exp(
            [jitter * self.settings.stain_variation * self.normal() for _ in "rgb"]
        )
        mixed = mixed * (density / max(float(mixed.mean()), 1e-9))
        return mixed.mean(keepdims=True) if self.settings.gray else mixed

    def cytoplasm(self, hue: float, density: float) -> Colour:
        """Cyan for ``hue`` 0 to pink or orange for 1, varied from cell to cell."""
        stains = self.settings
        wild = stains.stain_variation
        hue = float(np.clip(hue + 0.08 * wild * self.normal(), 0.0, 1.0))
        orange = 0.7 * hue * self.between(0, 1) ** 3
        tint = 0.35 * wild * self.between(0, 1) ** 2
        return self.mix(
            density * math.exp(0.30 * wild * self.normal()),
            (stains.light_green, 1 - hue),
            (stains.eosin, hue - orange + 0.12 * tint),
            (stains.orange, orange),
            (stains.hematoxylin, tint),
            jitter=0.09,
        )
