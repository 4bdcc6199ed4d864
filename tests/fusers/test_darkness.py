"""Where no plane has light, neither has the image; nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

import slidefusion as sf

torch = pytest.importorskip("torch")
from slidefusion.fusers.darkness import keep_black  # noqa: E402

BLACK = 2 / 255


def ramp() -> torch.Tensor:
    """Planes (1, 3, 3, 16, 256) lighter to the right, one channel of one at least twice as much."""
    light = torch.linspace(0, 6 * BLACK, 256).expand(16, 256)
    return light * torch.rand(1, 3, 3, 1, 1).mul(0.5).index_put_(
        (torch.tensor(0), torch.tensor(1), torch.tensor(2)), torch.tensor(1.0)
    )


def test_the_lightest_plane_and_channel_decide() -> None:
    torch.manual_seed(1)
    planes, image = ramp(), torch.rand(1, 3, 16, 256)
    light, source = planes.amax(dim=(1, 2)), planes[:, 0]
    found = keep_black(planes, source, image)
    inner = np.s_[..., 1:-1]
    black = (light <= BLACK).unsqueeze(1).expand_as(image)[inner]
    lit = (light >= 2 * BLACK + 1e-6).unsqueeze(1).expand_as(image)[inner]
    assert black.any() and lit.any() and not (black | lit).all()
    torch.testing.assert_close(found[inner][black], source[inner][black], rtol=0, atol=1e-6)
    assert torch.equal(found[inner][lit], image[inner][lit])
    between = ~(black | lit)
    share = (found - source)[inner][between] / (image - source)[inner][between]
    assert 0 <= share.min() < 0.05 and 0.95 < share.max() <= 1


def test_without_black_it_is_the_same_image() -> None:
    planes = torch.full((2, 1, 3, 8, 8), 2 * BLACK + 1e-6)
    image = torch.rand(2, 3, 8, 8)
    assert keep_black(planes, planes[:, 0], image) is image


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("fuser", ["focusgan", "pix2pix"])
def test_nothing_glows_beside_the_edge_of_a_camera_field(fuser: str, planes: int) -> None:
    """Whatever the weights; the ones that ship made a glow of 1 to 10 of 255."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    inside = np.hypot(y - 128, x - 128) < 90
    stack = np.where(inside, 220, 0) - rng.integers(0, 30, (planes, 3, 256, 256)) * inside
    dark = np.hypot(y - 128, x - 128) > 93
    for dtype, scale in (("uint8", 1), ("uint16", 200)):
        fused = sf.fuse((scale * stack).astype(dtype).swapaxes(0, 1), fuser, progress=False)
        image = fused.values
        assert image[:, dark].max() == 0
        assert image[:, inside].min() > 100 * scale
        plain = sf.fuse(
            (scale * stack).astype(dtype).swapaxes(0, 1), fuser, grain=0, progress=False
        )
        assert plain.values[:, dark].max() > 0  # what the network draws there by itself
