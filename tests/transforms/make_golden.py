"""Writes golden/dtcwt_*.npz with the ``dtcwt`` package, which needs an environment of its own::

    python -m venv /tmp/golden
    /tmp/golden/bin/pip install 'numpy<2' 'setuptools<80' 'dtcwt==0.14.0'
    /tmp/golden/bin/python tests/transforms/make_golden.py

Each file holds an image, its sub-bands (6, y, x) and low pass in double precision rounded to
single, and ``scaled``: what the package rebuilds when it multiplies orientation d of level j by
``gains[d, j]``, so that the inverse is compared away from perfect reconstruction too.
"""

import logging
from pathlib import Path

import dtcwt
import numpy as np

LEVELS = 4
CASES = [
    ("near_sym_a", "qshift_a", (21, 38)),
    ("near_sym_a", "qshift_06", (21, 38)),
    ("near_sym_b", "qshift_b", (21, 38)),
    ("antonini", "qshift_c", (21, 38)),
    ("legall", "qshift_d", (21, 38)),
    ("near_sym_a", "qshift_a", (64, 48)),
    ("near_sym_b", "qshift_d", (5, 7)),
]


def main() -> None:
    logging.disable(logging.WARNING)  # the package logs that odd images are extended
    folder = Path(__file__).parent / "golden"
    folder.mkdir(exist_ok=True)
    gains = np.linspace(0.2, 1.7, 6 * LEVELS).reshape(6, LEVELS)
    for level1, qshift, (height, width) in CASES:
        rng = np.random.default_rng(height)
        image = rng.normal(size=(height, width)).cumsum(0).astype(np.float32)
        transform = dtcwt.Transform2d(biort=level1, qshift=qshift)
        pyramid = transform.forward(image.astype(np.float64), nlevels=LEVELS)
        scaled = transform.inverse(pyramid, gain_mask=gains)[:height, :width]
        arrays = {
            f"level{j + 1}": np.moveaxis(band, -1, 0).astype(np.complex64)
            for j, band in enumerate(pyramid.highpasses)
        }
        np.savez_compressed(
            folder / f"dtcwt_{level1}_{qshift}_{height}x{width}.npz",
            level1_filters=level1,
            qshift_filters=qshift,
            image=image,
            lowpass=pyramid.lowpass.astype(np.float32),
            gains=gains,
            scaled=scaled.astype(np.float32),
            **arrays,
        )


if __name__ == "__main__":
    main()
