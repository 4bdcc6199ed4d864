"""The ranges of the inputs of convolutions, measured, and as text in a card."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from slidefusion.nets.input_ranges import as_text, from_text, measure  # noqa: E402


def test_what_nearly_all_values_of_a_channel_lie_between() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3))
    values = torch.linspace(-1, 3, 10_001)[torch.randperm(10_001)][:10_000]
    image = torch.stack([values, values.abs()]).view(1, 2, 100, 100)
    (found,) = measure(network, lambda: network(image)).values()
    share = 0.002 * 4
    wanted = torch.tensor([[-1 + share, 0], [3 - share, 3 - share]])
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)
    further = measure(network, lambda: (network(image), network(2 * image)))["0"]
    torch.testing.assert_close(further, 2 * found)


def test_a_range_has_0_inside() -> None:
    network = nn.Sequential(nn.Conv2d(2, 1, 3))
    image = torch.stack([torch.full((8, 8), 5.0), torch.full((8, 8), -5.0)])[None]
    assert measure(network, lambda: network(image))["0"].tolist() == [[0, -5], [5, 0]]


def test_only_convolutions_that_can_become_faster_are_measured() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 1, 5)
    )
    found = measure(network, lambda: network(torch.rand(1, 2, 16, 16)))
    assert {name: tuple(pair.shape) for name, pair in found.items()} == {"0": (2, 2), "3": (2, 4)}
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_text_and_back() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 3))
    ranges = {"0": torch.tensor([[-1.25, 0, -1e-7], [0, 12345, 3.14159]])}
    back = from_text(as_text(ranges), network)["0"]
    torch.testing.assert_close(back, ranges["0"], rtol=0.005, atol=0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ({"1": ["0", "1"]}, "no convolution"),
        ({"0": ["0", "1"]}, "1 and 1 values for 2"),
        ({"0": ["0 0", "1"]}, "2 and 1 values for 2"),
        ({"0": ["0 0", "1 nan"]}, "around 0"),
        ({"0": ["0 0", "1 inf"]}, "around 0"),
        ({"0": ["0 1", "1 2"]}, "around 0"),
        ({"0": ["0 x", "1 2"]}, "could not convert"),
        ({"0": ["0 0"]}, "not enough values"),
    ],
)
def test_text_of_something_else_is_refused(text: dict[str, list[str]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        from_text(text, nn.Sequential(nn.Conv2d(2, 1, 3)))
