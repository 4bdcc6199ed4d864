"""The inner loop of SSIM: weighted local moments of two images under a separable window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slidefusion.jit import kernel

__all__ = ["ssim_sum"]


@kernel
def ssim_sum(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    taps: npt.NDArray[np.float64],
    bessel: float,
    c1: float,
    c2: float,
) -> float:
    """Sum of the SSIM index over all positions where the window lies inside the image.

    ``x`` and ``y`` are (Y, X); ``taps`` (n,) sums to 1 and is applied along both axes; ``bessel``
    multiplies variances and covariance (1 for the population form). There are
    (Y - n + 1) (X - n + 1) positions. Wang et al. 2004, equation 13, with exponents 1.
    """
    n = len(taps)
    height, width = x.shape
    out_width = width - n + 1
    # The five moments, filtered along y first and then along x. Taps run in the outer loops, so
    # that the inner ones go over contiguous pixels and vectorise without reassociation.
    down = np.empty((5, width))
    across = np.empty((5, out_width))
    total = 0.0
    for i in range(height - n + 1):
        down[:] = 0.0
        for t in range(n):
            w = taps[t]
            for j in range(width):
                a = x[i + t, j]
                b = y[i + t, j]
                down[0, j] += w * a
                down[1, j] += w * b
                down[2, j] += w * (a * a)
                down[3, j] += w * (b * b)
                down[4, j] += w * (a * b)
        across[:] = 0.0
        for k in range(5):
            for t in range(n):
                w = taps[t]
                for j in range(out_width):
                    across[k, j] += w * down[k, j + t]
        for j in range(out_width):
            mx = across[0, j]
            my = across[1, j]
            vx = bessel * (across[2, j] - mx * mx)
            vy = bessel * (across[3, j] - my * my)
            cov = bessel * (across[4, j] - mx * my)
            total += ((2 * mx * my + c1) * (2 * cov + c2)) / (
                (mx * mx + my * my + c1) * (vx + vy + c2)
            )
    return total
