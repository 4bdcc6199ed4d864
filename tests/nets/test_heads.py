"""The ends all generators share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from slidefusion.nets.heads import ImageHead, detail_bands, middle_plane, stack_planes


def test_planes_then_masks() -> None:
    stack = torch.arange(2 * 3 * 2.0).reshape(2, 3, 2, 1, 1)
    masks = 100 + torch.arange(2 * 3.0).reshape(2, 3, 1, 1)
    assert stack_planes(stack)[1].flatten().tolist() == [6, 7, 8, 9, 10, 11]
    assert stack_planes(stack, masks)[0].flatten().tolist() == [0, 1, 2, 3, 4, 5, 100, 101, 102]


@pytest.mark.parametrize(("planes", "middle"), [(1, 0), (2, 1), (3, 1), (5, 2)])
def test_middle_plane(planes: int, middle: int) -> None:
    stack = torch.rand(1, planes, 3, 4, 4)
    assert torch.equal(middle_plane(stack), stack[:, middle])


def test_published_head_maps_tanh_to_0_1() -> None:
    features = torch.tensor([-100.0, 0.0, 0.5, 100.0]).reshape(1, 1, 2, 2)
    image = ImageHead()(features, torch.rand(1, 1, 1, 2, 2))
    expected = torch.tensor([0.0, 0.5, (torch.tanh(torch.tensor(0.5)) + 1) / 2, 1.0])
    torch.testing.assert_close(image.flatten(), expected)


def test_residual_head_adds_to_the_middle_plane_in_float32() -> None:
    stack = torch.tensor([0.7003]).reshape(1, 1, 1, 1, 1)
    head = ImageHead(residual=True, channels=1)
    features = torch.full((1, 4, 1, 1), 0.25, dtype=torch.bfloat16)
    torch.testing.assert_close(
        head(features, stack), 0.7003 + torch.tanh(features[:, :1].float() * 0.1)
    )
    assert head.train()(features * 80, stack) > 1.0
    assert head.eval()(features * 80, stack) == 1.0
    assert head.eval()(features * -80, stack) == 0.0


def test_residual_head_takes_a_plane_as_it_is() -> None:
    stack = torch.rand(2, 3, 3, 4, 4)
    head = ImageHead(residual=True, planes=3).eval()
    assert head.features == 14
    features = torch.zeros(2, 14, 4, 4)
    torch.testing.assert_close(head(features, stack), stack[:, 1])
    for first, plane in ((3, 0), (7, 2)):
        chosen = features.clone()
        chosen[:, first : first + 4] = 20.0  # of all its bands
        torch.testing.assert_close(head(chosen, stack), stack[:, plane])
    chosen[:, 3:7] = torch.atanh(torch.tensor(0.5))
    chosen[:, 7:11] = 0.0
    torch.testing.assert_close(head(chosen, stack), (stack[:, 0] + stack[:, 1]) / 2)


def test_bands_and_the_rest_are_the_image() -> None:
    image = torch.rand(1, 3, 40, 30, dtype=torch.float64)
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    smooth = image[0].numpy()
    for number, band in enumerate(detail_bands(image)):
        holed = np.zeros(4 * 2**number + 1)
        holed[:: 2**number] = kernel
        next_ = ndimage.convolve1d(smooth, holed, axis=1, mode="nearest")
        next_ = ndimage.convolve1d(next_, holed, axis=2, mode="nearest")
        np.testing.assert_allclose(band[0].numpy(), smooth - next_, atol=1e-12)
        smooth = next_


def test_residual_head_strengthens_a_band() -> None:
    stack = torch.rand(1, 1, 3, 16, 16) * 0.5 + 0.25
    features = torch.zeros(1, 6, 16, 16)
    features[:, 4] = 0.2
    image = ImageHead(residual=True)(features, stack)
    gain = 4 * torch.tanh(torch.tensor(0.05))
    torch.testing.assert_close(image, stack[:, 0] + gain * detail_bands(stack[:, 0])[1])
