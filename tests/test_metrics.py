"""The metrics against other implementations, closed forms and published properties."""

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import structural_similarity

from slidefusion import metrics
from slidefusion.errors import OptionError, UsageError

SHAPES = st.tuples(st.integers(1, 3), st.integers(11, 40), st.integers(11, 40))
DTYPES = st.sampled_from(["uint8", "uint16", "float32"])


def texture(shape, dtype, seed=0):
    """A smooth random image that uses the range of its dtype."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), (0,) * (len(shape) - 2) + (1, 1))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    if dtype == "float32":
        return smooth.astype(dtype)
    return np.rint(smooth * np.iinfo(dtype).max).astype(dtype)


def two_images(shape, dtype, seed):
    a, b = texture(shape, dtype, seed), texture(shape, dtype, seed + 1)
    mixed = (0.7 * a.astype(np.float64) + 0.3 * b).astype(dtype)
    return a, mixed


@given(SHAPES, DTYPES, st.integers(0, 99), st.booleans())
@settings(max_examples=40, deadline=None)
def test_ssim_equals_scikit_image(shape, dtype, seed, gaussian):
    a, b = two_images(shape, dtype, seed)
    data_range = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    as_wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        channel_axis=0,
        data_range=data_range,
        **(as_wang if gaussian else {}),
    )
    ours = metrics.ssim(a, b, data_range=data_range, window="gaussian" if gaussian else "uniform")
    assert ours == pytest.approx(theirs, abs=1e-6)


@given(SHAPES, DTYPES, st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_cc_equals_numpy(shape, dtype, seed):
    a, b = two_images(shape, dtype, seed)
    theirs = np.mean([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)])
    assert metrics.cc(a, b) == pytest.approx(theirs, abs=1e-5 if dtype == "float32" else 1e-12)


@given(st.integers(0, 99), st.sampled_from(["uint8", "uint16", "float32"]))
@settings(max_examples=20, deadline=None)
def test_qmi_equals_numpys_histogram(seed, dtype):
    a, b = two_images((23, 31), dtype, seed)
    top = 1.0 if dtype == "float32" else np.iinfo(dtype).max + 1
    joint = np.histogram2d(a.ravel(), b.ravel(), bins=256, range=((0, top), (0, top)))[0]
    p = joint / joint.sum()

    def entropy(q):
        return -sum(v * np.log2(v) for v in q.ravel() if v > 0)

    hx, hy = entropy(p.sum(axis=1)), entropy(p.sum(axis=0))
    expected = 2 * (hx + hy - entropy(p)) / (hx + hy)
    data_range = 1.0 if dtype == "float32" else None
    assert metrics.qmi(a, b, data_range=data_range) == pytest.approx(expected, abs=1e-9)


def test_qmi_of_distributions_known_by_hand():
    x = np.array([[0, 0, 255, 255]], dtype=np.uint8)
    independent = np.array([[0, 255, 0, 255]], dtype=np.uint8)
    half = np.array([[0, 0, 0, 255]], dtype=np.uint8)
    assert metrics.qmi(x, 255 - x) == pytest.approx(1)  # a bijection loses nothing
    assert metrics.qmi(x, independent) == pytest.approx(0, abs=1e-12)
    # H(x) = 1 bit; H(half) = 0.811278; H(x, half) = 1.5; so I = 0.311278 bit.
    assert metrics.qmi(x, half) == pytest.approx(2 * 0.311278 / 1.811278, abs=1e-6)
    constant = np.zeros((4, 4), np.uint8)
    assert metrics.qmi(constant, constant + np.uint8(3)) == 1


def test_qmi_of_12_bit_values_in_16_bits_uses_their_range():
    a, b = two_images((40, 40), "uint8", 3)
    as_12_bit = [x.astype(np.uint16) * 16 for x in (a, b)]
    assert metrics.qmi(*as_12_bit, data_range=4095) == pytest.approx(metrics.qmi(a, b), abs=1e-12)


@given(SHAPES, DTYPES, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_identity_symmetry_and_bounds(shape, dtype, seed):
    a, b = two_images(shape, dtype, seed)
    given_range = {"data_range": 1.0} if dtype == "float32" else {}
    for name, value in metrics.compare(a, a, **given_range).items():
        assert value == pytest.approx(1, abs=1e-9), name
    forward, backward = (metrics.compare(*pair, **given_range) for pair in ((a, b), (b, a)))
    for name, value in forward.items():
        assert value == pytest.approx(backward[name], abs=1e-9), name
        assert value < 1, name
    assert forward["qmi"] >= 0
    assert 0 <= metrics.qabf(a, [b]) <= 0.9749


def test_colour_is_the_mean_over_channels():
    a, b = two_images((3, 30, 30), "uint8", 5)
    for metric in (metrics.ssim, metrics.cc, metrics.qmi):
        assert metric(a, b) == pytest.approx(np.mean([metric(a[c], b[c]) for c in range(3)]))
    assert metrics.spatial_frequency(a) == pytest.approx(
        np.mean([metrics.spatial_frequency(a[c]) for c in range(3)])
    )


def test_cc_of_a_constant_is_undefined_and_warns_of_nothing():
    flat, varied = np.full((12, 12), 7, np.uint8), texture((12, 12), "uint8")
    assert np.isnan(metrics.cc(varied, flat))
    assert np.isnan(metrics.cc(flat, flat))
    assert metrics.cc(flat, varied) == 0
    assert np.isnan(metrics.qabf(flat, [flat]))


def test_cc_leaves_out_a_channel_that_is_constant_in_the_reference():
    image, reference = two_images((3, 30, 30), "uint8", 5)
    wanted = np.mean([metrics.cc(image[c], reference[c]) for c in (0, 2)])
    reference[1] = 9
    assert metrics.cc(image, reference) == pytest.approx(wanted)
    image[1] = 9
    assert metrics.cc(image, reference) == pytest.approx(wanted)


def test_cc_keeps_its_digits_on_a_large_offset():
    rng = np.random.default_rng(0)
    a = (60000 + rng.integers(0, 3, (50, 50))).astype(np.uint16)
    b = (60000 + rng.integers(0, 3, (50, 50))).astype(np.uint16)
    expected = np.corrcoef((a - 60000).ravel(), (b - 60000).ravel())[0, 1]
    assert metrics.cc(a, b) == pytest.approx(expected, abs=1e-12)


def test_blur_lowers_every_metric_step_by_step():
    sharp = texture((96, 96), "uint8")
    blurred = [
        np.rint(ndimage.gaussian_filter(sharp.astype(float), s)).astype(np.uint8)
        for s in (0.5, 1, 2)
    ]
    for metric in (metrics.ssim, metrics.cc, metrics.qmi):
        scores = [metric(sharp, b) for b in blurred]
        assert scores == sorted(scores, reverse=True), metric.__name__
    kept = [metrics.qabf(b, [sharp]) for b in [sharp, *blurred]]
    assert kept == sorted(kept, reverse=True)
    activity = [metrics.spatial_frequency(b) for b in [sharp, *blurred]]
    assert activity == sorted(activity, reverse=True)


def test_qabf_of_the_only_plane_is_the_published_maximum():
    a = texture((3, 40, 40), "uint8")
    best = 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))
    assert metrics.qabf(a, [a]) == pytest.approx(best, abs=1e-12)
    assert best == pytest.approx(0.9748, abs=1e-4)


def test_qabf_weights_planes_by_their_edges():
    a, flat = texture((40, 40), "uint8"), np.full((40, 40), 9, np.uint8)
    assert metrics.qabf(a, np.stack([flat, a, flat])) == pytest.approx(metrics.qabf(a, [a]))
    assert metrics.qabf(flat, [a]) < 0.01


def test_qabf_leaves_out_a_channel_without_edges():
    planes = texture((2, 3, 30, 30), "uint8")
    planes[:, 1] = 9
    image = planes[0]
    with_edges = [metrics.qabf(image[c], planes[:, c]) for c in (0, 2)]
    assert metrics.qabf(image, planes) == pytest.approx(np.mean(with_edges))


def test_qabf_ignores_the_sign_of_an_edge_but_not_its_orientation():
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (20, 1))
    assert metrics.qabf(200 - ramp, [ramp]) == pytest.approx(metrics.qabf(ramp, [ramp]))
    assert metrics.qabf(np.ascontiguousarray(ramp.T), [ramp]) < 0.01


def test_spatial_frequency_of_known_patterns():
    stripes = np.tile(np.array([0, 10], np.uint8), (6, 3))
    assert metrics.spatial_frequency(stripes) == pytest.approx(10)
    board = (np.indices((6, 6)).sum(axis=0) % 2 * 10).astype(np.uint8)
    assert metrics.spatial_frequency(board) == pytest.approx(10 * np.sqrt(2))


def test_strips_change_nothing(monkeypatch):
    a, b = two_images((2, 61, 33), "uint16", 1)

    def all_metrics():
        return [
            *metrics.compare(a, b).values(),
            metrics.qabf(a, [b, a]),
            metrics.spatial_frequency(a),
        ]

    whole = all_metrics()
    monkeypatch.setattr(metrics, "_STRIP_VALUES", 1)
    assert all_metrics() == pytest.approx(whole, abs=1e-9)


def test_lazy_arrays_are_read_in_strips():
    a, b = two_images((3, 40, 40), "uint8", 2)
    stored = zarr.create_array(zarr.storage.MemoryStore(), data=a, chunks=(1, 16, 16))
    assert metrics.compare(stored, da.from_array(b)) == metrics.compare(a, b)


U8 = np.zeros((20, 20), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.ssim(U8, U8[:15]), UsageError, r"\(20, 20\).*\(15, 20\)"),
        (lambda: metrics.ssim(U8[:10], U8[:10]), UsageError, "10 x 20 px.*11 x 11"),
        (lambda: metrics.ssim(U8[:6], U8[:6], window="uniform"), UsageError, "7 x 7"),
        (lambda: metrics.ssim(U8, U8, window="box"), OptionError, "'gaussian' or 'uniform'"),
        (lambda: metrics.cc(U8, U8.astype(np.uint16)), UsageError, "uint8.*uint16.*convert"),
        (lambda: metrics.cc(U8.astype(float), U8), UsageError, "float64.*uint8, uint16, float32"),
        (lambda: metrics.cc(U8[None, None], U8[None, None]), UsageError, r"\(C, Y, X\)"),
        (lambda: metrics.cc(U8[:0], U8[:0]), UsageError, "empty"),
        (lambda: metrics.ssim(*[U8.astype("f4")] * 2), OptionError, "data_range is missing"),
        (lambda: metrics.qmi(U8, U8, data_range=0), OptionError, "data_range=0"),
        (lambda: metrics.qmi(U8, U8, bins=1), OptionError, "bins=1"),
        (lambda: metrics.cc(*[np.full((5, 5), np.nan, "f4")] * 2), UsageError, "NaN"),
        (lambda: metrics.qabf(U8, []), UsageError, "empty"),
        (lambda: metrics.qabf(U8[:2], [U8[:2]]), UsageError, "3 x 3"),
        (lambda: metrics.spatial_frequency(U8[:1]), UsageError, "2 x 2"),
    ],
)
def test_wrong_input_is_refused_clearly(call, error, message):
    with pytest.raises(error, match=message):
        call()
