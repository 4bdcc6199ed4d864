"""The `dtcwt` package's fusion loop, timed by `kernels.py` in an interpreter that can install it.

The package needs NumPy below 2, so it runs in an environment of its own::

    python -m venv /tmp/peer && /tmp/peer/bin/pip install 'numpy<2' 'setuptools<80' dtcwt==0.14.0
    python benchmarks/kernels.py --dtcwt-python /tmp/peer/bin/python

Reads paths of stacks (Z, C, Y, X) uint8, ``.npy``, from standard input, a line each, and answers
with the seconds that fusing took.
"""

import sys
import time

import dtcwt
import numpy as np

LEVELS = 4


def fuse(stack):
    """The coefficients of largest modulus, summed over the channels; the mean of the low passes."""
    transform = dtcwt.Transform2d("near_sym_a", "qshift_a")
    best, strength, low = [], [], None
    for plane in stack:
        pyramids = [transform.forward(c.astype(np.float32), nlevels=LEVELS) for c in plane]
        lows = np.stack([pyramid.lowpass for pyramid in pyramids])
        for j in range(LEVELS):
            bands = np.stack([pyramid.highpasses[j] for pyramid in pyramids])
            modulus = np.abs(bands).sum(0)
            if low is None:
                best.append(bands)
                strength.append(modulus)
                continue
            wins = modulus > strength[j]
            np.copyto(best[j], bands, where=wins)
            np.copyto(strength[j], modulus, where=wins)
        low = lows if low is None else low + lows
    fused = [
        transform.inverse(dtcwt.Pyramid(low[c] / len(stack), [bands[c] for bands in best]))
        for c in range(stack.shape[1])
    ]
    return np.stack(fused).clip(0, 255).astype(np.uint8)


def main():
    for line in sys.stdin:
        stack = np.load(line.strip())
        start = time.perf_counter()
        fuse(stack)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
