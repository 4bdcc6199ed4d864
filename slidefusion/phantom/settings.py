"""What a phantom slide looks like: specimen, stain, optics and camera, each field with its unit."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slidefusion.errors import OptionError, near_match

__all__ = ["PhantomSettings", "Rgb"]

Rgb = tuple[float, float, float]


def _range(default: Any, low: float, high: float) -> Any:
    """A field whose value (or each of whose values) lies in ``[low, high]``."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class PhantomSettings:
    """Specimen, stain, optics and camera of a synthetic cervical smear.

    The defaults are a liquid-based Papanicolaou preparation on a 20x / NA 0.8 slide scanner.
    Lengths on the slide are in um, so another ``mpp_um`` shows the same specimen magnified.
    Raises :class:`OptionError` when a value has the wrong type or is out of its range.

    >>> PhantomSettings(na=0.4).na
    0.4
    """

    # optics
    mpp_um: float = _range(0.243, 0.1, 2.0)
    """Size of a pixel on the slide in um."""
    z_step_um: float = _range(2.7, 0.2, 20.0)
    """Distance between neighbouring planes in um."""
    na: float = _range(0.8, 0.05, 1.4)
    """Numerical aperture of the objective."""
    condenser: float = _range(0.85, 0.1, 1.0)
    """Condenser aperture as a fraction of ``na``: the light cone that defocus spreads over."""
    wavelength_um: float = _range(0.55, 0.3, 0.9)
    """Wavelength of light in um."""
    refractive_index: float = _range(1.5, 1.0, 1.6)
    """Refractive index of the mounting medium, which the defocus cone crosses."""
    softness: float = _range(0.25, 0.0, 0.6)
    """Gaussian softening of the defocus disc, sigma as a fraction of the disc's radius."""

    # specimen
    density: float = _range(1.0, 0.0, 4.0)
    """Number of cells, relative to the default."""
    density_scale_um: float = _range(600.0, 100.0, 5000.0)
    """Distance in um over which the number of cells changes."""
    clustering: float = _range(1.0, 0.0, 4.0)
    """Number of sheets, piles and crowded groups, relative to the default."""
    depth_um: float = _range(11.0, 0.0, 40.0)
    """Half range in um of the depths of the cells around the reference plane."""
    tilt: float = _range(0.07, 0.0, 0.5)
    """Typical slope of a cell: um of depth a um along it."""
    cell_um: float = _range(52.0, 15.0, 100.0)
    """Mean diameter of superficial and intermediate cells in um."""
    nucleus_um: float = _range(8.0, 3.0, 20.0)
    """Mean diameter of the nuclei of intermediate cells in um."""
    folding: float = _range(1.0, 0.0, 3.0)
    """Number of folded margins and wrinkles, relative to the default."""
    granularity: float = _range(1.0, 0.0, 4.0)
    """Contrast of the fine texture of the cytoplasm, relative to the default."""
    neutrophils: float = _range(1.0, 0.0, 10.0)
    """Number of neutrophils, relative to the default."""
    bacteria: float = _range(1.0, 0.0, 10.0)
    """Number of bacteria and granules, relative to the default."""
    debris: float = _range(1.0, 0.0, 10.0)
    """Number of debris particles, relative to the default."""
    mucus: float = _range(1.0, 0.0, 10.0)
    """Number of mucus strands, relative to the default."""

    # stain: optical densities (decadic) of red, green and blue for a unit amount
    hematoxylin: tuple[float, float, float] = _range((1.0, 0.93, 0.60), 0.0, 3.0)
    """Optical density of hematoxylin (nuclei, bacteria) in red, green, blue, a unit amount."""
    light_green: tuple[float, float, float] = _range((1.0, 0.49, 0.42), 0.0, 3.0)
    """Optical density of EA light green (cyan cytoplasm) in red, green, blue, a unit amount."""
    eosin: tuple[float, float, float] = _range((0.25, 1.0, 0.55), 0.0, 3.0)
    """Optical density of EA eosin (pink cytoplasm) in red, green, blue, a unit amount."""
    orange: tuple[float, float, float] = _range((0.12, 0.55, 1.0), 0.0, 3.0)
    """Optical density of OG-6 (orange cytoplasm) in red, green, blue, a unit amount."""
    cytoplasm_density: float = _range(0.085, 0.0, 2.0)
    """Mean optical density of one flat cytoplasm."""
    nucleus_density: float = _range(0.25, 0.0, 3.0)
    """Mean optical density of an intermediate nucleus."""
    pink: float = _range(0.25, 0.0, 1.0)
    """Fraction of cells with pink or orange cytoplasm."""
    stain_variation: float = _range(1.0, 0.0, 3.0)
    """Variation of stain from cell to cell, relative to the default."""

    # camera
    gray: bool = False
    """One gray channel, with the mean of the three optical densities, instead of three colours."""
    white: tuple[float, float, float] = _range((238.0, 240.0, 240.0), 20.0, 255.0)
    """Gray value of clear glass in red, green, blue, 0 to 255."""
    vignette: float = _range(0.01, 0.0, 0.3)
    """Loss of light from the centre to the corner of a camera field, as a fraction."""
    field_px: float = _range(2048.0, 256.0, 8192.0)
    """Side of a camera field in pixels."""
    full_well: float = _range(20000.0, 0.0, 1e6)
    """Photoelectrons at gray value 255, which set the photon noise; 0 for no noise."""
    sharpen: float = _range(0.0, 0.0, 3.0)
    """Strength of the camera's unsharp mask (0 for none)."""
    jpeg: float = _range(0.0, 0.0, 100.0)
    """Quality 1 to 100 of JPEG-like 8 x 8 quantisation of every plane; 0 for none."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            default = item.default
            if isinstance(default, bool):
                if not isinstance(value, bool):
                    raise OptionError(f"{item.name}={value!r}: must be True or False")
                continue
            low, high = item.metadata["low"], item.metadata["high"]
            count = len(default) if isinstance(default, tuple) else 1
            values = tuple(value) if isinstance(value, tuple | list) else (value,)
            if len(values) != count or not all(_number_in(v, low, high) for v in values):
                wanted = "a number" if count == 1 else f"{count} numbers"
                raise OptionError(
                    f"{item.name}={value!r}: must be {wanted} from {low:g} to {high:g}"
                )
            clean = tuple(float(v) for v in values)
            object.__setattr__(self, item.name, clean if count > 1 else clean[0])
        if 0 < self.jpeg < 1:
            raise OptionError(f"jpeg={self.jpeg}: must be a quality from 1 to 100, or 0 for none")
        if self.na >= self.refractive_index:
            raise OptionError(
                f"na={self.na}, refractive_index={self.refractive_index}: the aperture must be "
                "smaller than the refractive index; lower na or raise refractive_index"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON-able dictionary."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PhantomSettings:
        """Settings from :meth:`to_dict`'s dictionary; missing names keep their defaults.

        Raises :class:`OptionError` for an unknown name.
        """
        names = [item.name for item in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise OptionError(
                    f"unknown phantom setting {key!r}{near_match(key, names)}; "
                    f"allowed: {', '.join(names)}"
                )
        return cls(**values)

    @classmethod
    def varied(cls, seed: int, **fixed: Any) -> PhantomSettings:
        """Random plausible settings, for training: other scanners, stains, z steps, pixel sizes.

        About a quarter of the draws have weak blur (small z steps or apertures, sharpened
        cameras), so that a network also learns to leave sharp input alone. ``fixed`` overrides.

        >>> PhantomSettings.varied(3, gray=True).gray
        True
        """
        rng = np.random.default_rng([0x7A31ED, seed])
        weak = rng.random() < 0.25

        def spread(value: float, factor: float) -> float:
            return value * math.exp(rng.uniform(-1, 1) * math.log(factor))

        def tint(colour: Rgb, amount: float) -> Rgb:
            r, g, b = (float(np.clip(v + rng.normal(0, amount), 0.03, 1.3)) for v in colour)
            return r, g, b

        base = cls()
        na = float(rng.choice([0.4, 0.5, 0.75, 0.8, 0.95], p=[0.15, 0.15, 0.25, 0.3, 0.15]))
        level = rng.uniform(205, 250)
        drawn: dict[str, Any] = {
            "mpp_um": spread(0.26, 1.6),
            "z_step_um": float(rng.uniform(0.4, 1.2) if weak else rng.uniform(1.0, 4.5)),
            "na": na,
            "condenser": float(rng.uniform(0.4, 0.8) if weak else rng.uniform(0.6, 1.0)),
            "wavelength_um": float(rng.uniform(0.50, 0.60)),
            "softness": float(rng.uniform(0.1, 0.4)),
            "density": spread(1.2, 1.8),
            "density_scale_um": spread(500.0, 2.0),
            "clustering": spread(1.0, 2.0),
            "depth_um": float(rng.uniform(1.0, 5.0) if weak else rng.uniform(5.0, 16.0)),
            "tilt": spread(0.06, 2.0),
            "cell_um": spread(50.0, 1.25),
            "nucleus_um": spread(8.0, 1.2),
            "folding": spread(1.0, 1.7),
            "granularity": spread(1.0, 1.8),
            "neutrophils": spread(1.0, 4.0),
            "bacteria": spread(1.0, 3.0),
            "debris": spread(1.0, 3.0),
            "mucus": spread(1.0, 3.0),
            "hematoxylin": tint(base.hematoxylin, 0.07),
            "light_green": tint(base.light_green, 0.08),
            "eosin": tint(base.eosin, 0.08),
            "orange": tint(base.orange, 0.08),
            "cytoplasm_density": spread(0.09, 1.8),
            "nucleus_density": spread(0.28, 1.6),
            "pink": float(rng.uniform(0.0, 0.6)),
            "stain_variation": spread(1.0, 1.5),
            "gray": bool(rng.random() < 0.2),
            "white": tuple(float(min(252.0, level + rng.normal(0, 4))) for _ in range(3)),
            "vignette": float(rng.uniform(0.0, 0.05)),
            "full_well": spread(40000.0, 13.0),
            "sharpen": float(rng.uniform(0.2, 1.2)) if rng.random() < 0.3 else 0.0,
            "jpeg": float(rng.uniform(70, 95)) if rng.random() < 0.3 else 0.0,
        }
        return cls(**{**drawn, **fixed})


def _number_in(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float | np.floating | np.integer)
    return number and not isinstance(value, bool) and low <= float(value) <= high
