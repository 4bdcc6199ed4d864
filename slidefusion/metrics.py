"""How near a fused image comes to a reference, and how good it is without one.

With a reference (the paper's section 4.1): :func:`ssim`, :func:`cc`, :func:`qmi`. Without one, from
the planes alone: :func:`qabf`. From the image alone: :func:`spatial_frequency`.

All take images (C, Y, X) or (Y, X) of uint8, uint16 or float32, score every channel alone and
return the mean over channels. They read their inputs in strips of rows, so anything that has
``shape``, ``dtype`` and slicing (NumPy, Zarr, xarray, Dask) works in bounded memory; what is
expensive to compute should be computed first.

>>> import numpy as np
>>> image = np.arange(4096, dtype=np.uint16).reshape(64, 64)
>>> ssim(image, image), cc(image, image), qmi(image, image)
(1.0, 1.0, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OptionError, UsageError
from slidefusion.value_range import STACK_DTYPES, is_stack_dtype

__all__ = ["cc", "compare", "qabf", "qmi", "spatial_frequency", "ssim"]

_STRIP_VALUES = 1 << 20  # values a strip: 8 MiB in float64, which stays in cache


def ssim(
    image: Any,
    reference: Any,
    *,
    data_range: float | None = None,
    window: Literal["gaussian", "uniform"] = "gaussian",
) -> float:
    """Structural similarity of two images, 1 for identical ones.

    ``window="gaussian"`` is the form of Wang et al. 2004 and the one that papers quote: an 11 x 11
    Gaussian window of sigma 1.5 px, population variances, K1 = 0.01, K2 = 0.03.
    ``window="uniform"`` is scikit-image's default: 7 x 7 mean, sample variances. Both average the
    index over all positions where the window lies inside the image, and equal
    ``skimage.metrics.structural_similarity`` at the same settings to 1e-6.

    ``data_range`` is L, the range of the pixel values: by default that of the integer dtype;
    floats have none, so it has to be given. Raises :class:`UsageError` when shapes or dtypes
    differ or the image is smaller than the window.
    """
    from slidefusion.metrics_kernels import ssim_sum  # numba: only when it is needed

    value_range = _check_pair(image, reference, data_range)
    if window == "gaussian":
        taps, bessel = _gaussian(sigma_px=1.5, radius_px=5), 1.0
    elif window == "uniform":
        taps, bessel = np.full(7, 1 / 7), 49 / 48
    else:
        raise OptionError(f"window={window!r}: must be 'gaussian' or 'uniform'")
    n = len(taps)
    _check_size(image, n, f"the {n} x {n} px window of SSIM")
    sums = np.zeros(_channels(image))
    for x, y in _strips(image, reference, overlap=n - 1):
        for c in range(len(x)):
            sums[c] += ssim_sum(
                x[c], y[c], taps, bessel, (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
            )
    height, width = image.shape[-2:]
    return float(np.mean(sums / ((height - n + 1) * (width - n + 1))))


def cc(image: Any, reference: Any) -> float:
    """Correlation coefficient (Pearson) of the pixels of two images, from -1 to 1.

    Over all pixels of a channel, then the mean over channels, so that a colour cast that both
    images share does not count as agreement. It is undefined where a channel is constant: one that
    is so in the reference is left out of the mean, one that is so in the image alone counts as 0.
    NaN when the whole reference is constant. Raises :class:`UsageError` when shapes or dtypes
    differ.
    """
    _check_pair(image, reference, None, need_range=False)
    count = 0.0
    means = np.zeros((2, _channels(image)))
    moments = np.zeros((3, _channels(image)))  # sums of dx², dy², dx dy
    for x, y in _strips(image, reference):
        # Chan et al. 1979: merge centred moments, never subtract large uncentred ones.
        n = x[0].size
        mean = np.stack([x.mean(axis=(1, 2)), y.mean(axis=(1, 2))])
        dx, dy = x - mean[0, :, None, None], y - mean[1, :, None, None]
        shift = mean - means
        weight = count * n / (count + n)
        for k, (i, j) in enumerate(((0, 0), (1, 1), (0, 1))):
            within = np.einsum("cyx,cyx->c", (dx, dy)[i], (dx, dy)[j])
            moments[k] += within + weight * shift[i] * shift[j]
        means += shift * (n / (count + n))
        count += n
    scale = np.sqrt(moments[0]) * np.sqrt(moments[1])
    values = np.zeros(len(scale))
    np.divide(moments[2], scale, out=values, where=scale > 0)
    varies = moments[1] > 0
    return float(np.mean(np.clip(values[varies], -1, 1))) if varies.any() else math.nan


def qmi(image: Any, reference: Any, *, data_range: float | None = None, bins: int = 256) -> float:
    """Normalised mutual information of two images, from 0 (independent) to 1 (determined).

    QMI = 2 I(X; Y) / (H(X) + H(Y)), the term of Hossny et al. 2008 for one source, from the joint
    histogram of ``bins`` x ``bins`` equal bins over [0, ``data_range``]. The paper has no legible
    formula, but a range of 0 to 1, n = 255 and values of 0.32 to 0.44. Blurred colour cytology at
    the paper's SSIM of 0.885 scores 0.40 in this form (paper: 0.36 to 0.37) and 0.20 without the
    factor 2, which could not reach 1 either. Values outside the range count into the outermost
    bins. 1 when both images are constant. ``data_range`` and errors: as for :func:`ssim`.
    """
    value_range = _check_pair(image, reference, data_range)
    if not 2 <= bins <= 4096:
        raise OptionError(f"bins={bins}: must be from 2 to 4096")
    # Integers take range + 1 values, and each bin gets equally many of them.
    per_value = bins / (value_range + (np.dtype(image.dtype).kind == "u"))
    joint = np.zeros((_channels(image), bins * bins), dtype=np.int64)
    for x, y in _strips(image, reference):
        ix, iy = (np.clip(v * per_value, 0, bins - 1).astype(np.intp) for v in (x, y))
        index = ix * bins + iy
        for c in range(len(joint)):
            joint[c] += np.bincount(index[c].ravel(), minlength=bins * bins)
    return float(np.mean([_normalised_information(j.reshape(bins, bins)) for j in joint]))


def compare(image: Any, reference: Any, *, data_range: float | None = None) -> dict[str, float]:
    """The three metrics of the paper's tables as ``{"ssim": …, "cc": …, "qmi": …}``."""
    return {
        "ssim": ssim(image, reference, data_range=data_range),
        "cc": cc(image, reference),
        "qmi": qmi(image, reference, data_range=data_range),
    }


def qabf(image: Any, planes: Sequence[Any]) -> float:
    """No-reference: how much of the planes' edges the fused image kept, from 0 to 0.975.

    Q^AB/F of Xydeas and Petrović 2000 for any number of planes: Sobel strength and orientation of
    every plane's edges are compared with the image's, and weighted by the plane's edge strength
    (L = 1). ``planes`` is a sequence of images like ``image``, for instance a stack (Z, C, Y, X).
    With the published constants an image that equals its only plane scores 0.9748, the maximum.
    It rewards whatever keeps edges, noise and halos included: for comparing, not for proving.
    The mean over the channels that have an edge in some plane; NaN when none has. Errors: as for
    :func:`cc`, and for an empty ``planes``.
    """
    if len(planes) == 0:
        raise UsageError("planes is empty: Q^AB/F needs at least one plane to compare with")
    _check_size(image, 3, "the 3 x 3 px Sobel operator")
    kept = np.zeros(_channels(image))
    weight = np.zeros(_channels(image))
    for z in range(len(planes)):
        plane = planes[z]
        _check_pair(image, plane, None, need_range=False)
        for fused, source in _strips(image, plane, overlap=2):
            strength, quality = _edge_preservation(source, fused)
            kept += np.einsum("cyx,cyx->c", strength, quality)
            weight += strength.sum(axis=(1, 2))
    edged = weight > 0
    return float(np.mean(kept[edged] / weight[edged])) if edged.any() else math.nan


def spatial_frequency(image: Any) -> float:
    """No-reference: overall activity of an image in pixel values, 0 for a constant one.

    SF = sqrt(RF² + CF²), the root mean squares of differences along x and y (Eskicioglu and Fisher
    1995), each over the differences that exist. Noise raises it as much as focus does. Raises
    :class:`UsageError` for an image smaller than 2 x 2 px.
    """
    _check_size(image, 2, "a difference of neighbours")
    height, width = image.shape[-2:]
    row = np.zeros(_channels(image))
    column = np.zeros(_channels(image))
    for k, (x,) in enumerate(_strips(image, overlap=1)):
        # Strips share one row, whose own differences along x count once.
        dx = np.diff(x if k == 0 else x[:, 1:], axis=2)
        dy = np.diff(x, axis=1)
        row += np.einsum("cyx,cyx->c", dx, dx)
        column += np.einsum("cyx,cyx->c", dy, dy)
    per_channel = np.sqrt(row / (height * (width - 1)) + column / ((height - 1) * width))
    return float(np.mean(per_channel))


def _gaussian(sigma_px: float, radius_px: int) -> npt.NDArray[np.float64]:
    """Gaussian taps (2 radius + 1,) that sum to 1."""
    x = np.arange(-radius_px, radius_px + 1)
    taps: npt.NDArray[np.float64] = np.exp(-0.5 * (x / sigma_px) ** 2)
    taps /= taps.sum()
    return taps


def _normalised_information(joint: npt.NDArray[np.int64]) -> float:
    """2 I / (Hx + Hy) of a joint histogram (bins, bins)."""
    p = joint / joint.sum()
    hx, hy, hxy = (_entropy(q) for q in (p.sum(axis=1), p.sum(axis=0), p))
    if hx + hy == 0:
        return 1.0  # both constant: nothing is left unknown
    return float(np.clip(2 * (hx + hy - hxy) / (hx + hy), 0, 1))


def _entropy(p: npt.NDArray[np.float64]) -> float:
    """Entropy of a distribution in nats."""
    positive = p[p > 0]
    return float(-np.sum(positive * np.log(positive)))


def _edge_preservation(
    source: npt.NDArray[np.float64], fused: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Edge strength of ``source`` and Q^AF, both (C, Y-2, X-2). Xydeas and Petrović, eqs 2-7."""
    (gs, angle_s), (gf, angle_f) = _sobel(source), _sobel(fused)
    larger = np.maximum(gs, gf)
    ratio = np.ones_like(gs)
    np.divide(np.minimum(gs, gf), larger, out=ratio, where=larger > 0)
    # Orientations are modulo pi; this form is 1 for equal ones on either side of the wrap.
    alignment = np.abs(np.abs(angle_s - angle_f) - math.pi / 2) * (2 / math.pi)
    kept_strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
    kept_orientation = 0.9879 / (1 + np.exp(-22 * (alignment - 0.8)))
    return gs, kept_strength * kept_orientation


def _sobel(
    x: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Strength and orientation in (-pi/2, pi/2] of the edges of (C, Y, X), each (C, Y-2, X-2)."""
    down = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    across = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    gx = down[:, :, 2:] - down[:, :, :-2]
    gy = across[:, 2:] - across[:, :-2]
    angle = np.arctan2(gy, gx)
    angle = np.where(angle > math.pi / 2, angle - math.pi, angle)
    angle = np.where(angle <= -math.pi / 2, angle + math.pi, angle)
    return np.hypot(gx, gy), angle


def _strips(*images: Any, overlap: int = 0) -> Iterator[list[npt.NDArray[np.float64]]]:
    """Strips of rows (C, rows, X) of all images in float64; neighbours share ``overlap`` rows.

    Raises :class:`UsageError` for NaN or infinity.
    """
    height, width = images[0].shape[-2:]
    step = max(1, 4 * overlap, _STRIP_VALUES // (_channels(images[0]) * width))
    for top in range(0, max(1, height - overlap), step):
        strips = []
        for image in images:
            strip = np.asarray(image[..., top : top + step + overlap, :])
            if strip.dtype.kind == "f" and not np.isfinite(strip).all():
                raise UsageError("the image holds NaN or infinity: metrics need finite values")
            strips.append(strip.reshape(-1, *strip.shape[-2:]).astype(np.float64))
        yield strips


def _channels(image: Any) -> int:
    return int(image.shape[0]) if len(image.shape) == 3 else 1


def _check_image(image: Any, what: str) -> None:
    shape, dtype = tuple(image.shape), np.dtype(image.dtype)
    if len(shape) not in (2, 3) or 0 in shape:
        raise UsageError(f"{what} has shape {shape}: metrics take (C, Y, X) or (Y, X), none empty")
    if not is_stack_dtype(dtype):
        allowed = ", ".join(STACK_DTYPES)
        raise UsageError(f"{what} is {dtype}: metrics take {allowed}; convert it first")


def _check_pair(
    image: Any, reference: Any, data_range: float | None, *, need_range: bool = True
) -> float:
    """Check two images against each other and return the range of their values."""
    _check_image(image, "image")
    _check_image(reference, "reference")
    if tuple(image.shape) != tuple(reference.shape):
        raise UsageError(
            f"image has shape {tuple(image.shape)} and reference {tuple(reference.shape)}: "
            "they must be equal; crop both to the area they share"
        )
    dtype = np.dtype(image.dtype)
    if dtype != np.dtype(reference.dtype):
        raise UsageError(
            f"image is {dtype} and reference {np.dtype(reference.dtype)}: their values are not on "
            "one scale; convert one to the dtype of the other"
        )
    if data_range is None and dtype.kind == "u":
        return float(np.iinfo(dtype).max)
    if data_range is None:
        if not need_range:
            return 1.0
        raise OptionError(
            f"data_range is missing: {dtype} images have no range of their own; "
            "give it, for instance data_range=1.0"
        )
    if not (data_range > 0 and math.isfinite(data_range)):
        raise OptionError(f"data_range={data_range}: must be a finite number above 0")
    return float(data_range)


def _check_size(image: Any, side: int, why: str) -> None:
    _check_image(image, "image")
    height, width = image.shape[-2:]
    if min(height, width) < side:
        raise UsageError(
            f"image is {height} x {width} px: {why} needs at least {side} x {side}; "
            "compare a larger area"
        )
