"""How fast a learned fuser is on this processor: ``python benchmarks/networks.py``.

A 2048 x 2048 RGB image in memory, one plane, `focusgan`: the fuser as users call it, against a
plain loop over the same tiles with the same networks as trained (float32, contiguous, one tile at a
time), both merged with the same weights; and where the processor can and the weights say how, the
fuser in 8 bits. Then the rate of convolutions that PyTorch reaches here in bfloat16 and in float32,
measured on one of 64 to 64 channels, and the share of the faster that the fuser reaches, counting
only the arithmetic that its networks need (a multiplication and an addition are two).

All are measured in turn within each round, and medians are printed, so that a noisy machine is
noisy to all alike. Without ``--weights`` the networks are of the compact size and random.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from slidefusion import weights
from slidefusion.fusers.focusgan import Focusgan
from slidefusion.fusers.tiles import RowMerger, TileGrid, cut_tile
from slidefusion.geometry import Size, Window
from slidefusion.nets import build
from slidefusion.processor import multiplies_bytes
from slidefusion.training.recipe import compact

COMPACT: dict[str, Any] = compact("focusgan").network


def random_weights(folder: Path) -> str:
    """Networks of the compact size, saved like trained ones."""
    blur_model: Any = build("blur_model", width=16, blocks=[1, 1, 2])
    weights.save(folder / "blur", blur_model, {"fuser": "blur"})
    card = {"fuser": "focusgan", "blur_model": "blur"}
    return str(weights.save(folder / "compact", build("generator", **COMPACT), card))


class PlainLoop:
    """The same tiles and networks without anything done for speed."""

    def __init__(self, reference: str, fuser: Focusgan) -> None:
        self.fuser = fuser
        self.generator = weights.load(reference).network
        card = weights.blur_model_of(weights.look_up(reference))
        self.blur_model: Any = None if card is None else weights.load(card.reference).network
        for network in (self.generator, self.blur_model):
            if network is not None:
                network.to(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def tile(self, stack: torch.Tensor) -> torch.Tensor:
        """An image (1, 3, y, x) of planes (1, Z, 3, y, x)."""
        masks = None if self.blur_model is None else self.blur_model.blurred(stack[0])[None]
        image: torch.Tensor = self.generator(stack, masks)
        return image

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """The image (3, Y, X) of planes (Z, 3, Y, X) of uint8."""
        height, width = stack.shape[2:]
        grid = TileGrid(Size(height, width), self.fuser.tile, self.fuser.overlap)
        merger = RowMerger(grid, Window(0, 0, height, width), 3)
        rows = []
        for row in range(grid.rows):
            for column in range(grid.columns):
                place = grid.place(row, column)
                strip = stack[:, :, place.y : place.y + grid.tile]
                tile = cut_tile(strip, place.x, grid.tile).astype(np.float32) / np.float32(255)
                merger.add(row, column, self.tile(torch.from_numpy(tile[None]))[0].numpy())
            rows.append(merger.finish(row)[1].copy())
        return np.rint(np.concatenate(rows, axis=1) * 255).astype(np.uint8)


def convolution(dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A convolution of 64 to 64 channels of 256 x 256 px, and its FLOP."""
    image = torch.randn(1, 64, 256, 256).to(dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3).to(dtype).to(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return [functional.conv2d(image, kernel, padding=1) for _ in range(20)]

    return run, 20 * 2 * 64 * 64 * 9 * 256 * 256


def smooth_noise(shape: tuple[int, ...]) -> np.ndarray:
    """An image in which neighbours are alike, as in a slide, uint8."""
    noise = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
    smooth = functional.avg_pool2d(noise, 9, 1, 4, count_include_pad=False).numpy()
    return (255 * np.clip(0.7 + 3 * (smooth - 0.5), 0, 1)).astype(np.uint8)


def flop_of_a_tile(loop: PlainLoop, side: int, planes: int) -> float:
    """Multiplications and additions of the networks for one tile."""
    with FlopCounterMode(display=False) as counter:
        loop.tile(torch.zeros(1, planes, 3, side, side))
    return float(counter.get_total_flops())


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", help="name, path or URL; random ones if left out")
    parser.add_argument("--size", type=int, default=2048, help="side of the image in px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="that torch computes with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        reference = arguments.weights or random_weights(Path(folder))
        measure(reference, arguments.size, arguments.rounds)


def measure(reference: str, size: int, rounds: int) -> None:
    """Run all in turn and print the table."""
    card = weights.look_up(reference)
    planes = card.planes or 1
    masks = bool(card.config.get("masks", True))
    settings: dict[str, Any] = {"weights": reference, "blur_mask": masks, "grain": 0}
    fuser = Focusgan(**settings)  # the networks alone
    fusers = {f"focusgan ({fuser.precision})": fuser}
    if fuser.device == "cpu" and multiplies_bytes() and card.facts.get("input_ranges"):
        fusers["focusgan (int8)"] = Focusgan(**settings, precision="int8")
    stack = smooth_noise((planes, 3, size, size))
    # Loads and warms up, before the loop changes the networks' layout.
    images = {name: one(stack).image for name, one in fusers.items()}
    loop = PlainLoop(reference, fuser)
    plain = loop(stack).astype(int)
    grid = TileGrid(Size(size, size), fuser.tile, fuser.overlap)
    flop = flop_of_a_tile(loop, fuser.tile, planes) * grid.rows * grid.columns
    conv_flop = 0.0
    runs: dict[str, Callable[[], object]] = {}
    for dtype in ("bfloat16", "float32"):
        runs[f"a convolution, {dtype}"], conv_flop = convolution(getattr(torch, dtype))
        runs[f"a convolution, {dtype}"]()
    for name, one in fusers.items():
        runs[name] = lambda one=one: one(stack)
    runs["plain float32 loop"] = lambda: loop(stack)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    spent = {name: statistics.median(values) for name, values in taken.items()}
    rate = max(conv_flop / spent[name] for name in runs if name.startswith("a convolution"))
    megapixels = size * size / 1e6

    table = Table(title=f"focusgan, {planes} plane(s), {size} x {size} RGB, {card.name}")
    table.add_column(no_wrap=True)
    for column in ("seconds", "Mpx/s", "GFLOP/s", "of loop", "of conv."):
        table.add_column(column, justify="right")
    for name in [*fusers, "plain float32 loop"]:
        took = spent[name]
        times, share = spent["plain float32 loop"] / took, flop / took / rate
        values = f"{took:.2f}", f"{megapixels / took:.2f}", f"{flop / took / 1e9:.0f}"
        table.add_row(name, *values, f"{times:.2f} x", f"{share:.0%}")
    for name in runs:
        if name.startswith("a convolution"):
            table.add_row(name, f"{spent[name]:.3f}", "", f"{conv_flop / spent[name] / 1e9:.0f}")
    console = Console()
    console.print(table)
    apart = {name: np.abs(image - plain) for name, image in images.items()}
    differences = ", ".join(
        f"{name} {some.max()} of 255, {some.mean():.3f} on average" for name, some in apart.items()
    )
    console.print(
        f"{torch.get_num_threads()} threads, median of {rounds} rounds; "
        f"{grid.rows * grid.columns} tiles, {flop / 1e12:.2f} TFLOP; from the loop: {differences}"
    )


if __name__ == "__main__":
    main()
