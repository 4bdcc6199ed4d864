"""How fast the fusers are in memory, beside their peers: ``python benchmarks/kernels.py``.

10 planes of 1920 x 1200 RGB uint8; each thread fuses its own stack, all threads at once, every
library limited to one thread inside a task, as the engine runs them. All rows are measured in turn
within each round, and the median round is printed, so that a noisy machine is noisy to all alike.
The memory floor is the time to read the planes and write the result once at the copy bandwidth
measured with the same number of threads.

The `dtcwt` package needs an interpreter of its own (see `dtcwt_peer.py`); without
``--dtcwt-python`` its row is left out. Enfuse (Debian package ``enfuse``) is a program: its row is
end to end, from files in the page cache to a file, and takes most of the time; it runs in the
first ``--enfuse-rounds`` rounds only.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from enfuse_peer import Enfuse
from wavelet_peers import DtcwtPackage, pywavelets_max

from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.fusers.lpp import Lpp
from slidefusion.fusers.selection import binomial_window
from slidefusion.fusers.wt import Wt

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]

LEVELS = Lpp().levels
POWER = Lpp().power
FLOOR = Lpp().noise

PYWAVELETS = "PyWavelets db2, max"
DTCWT_PACKAGE = "dtcwt package, max"
ENFUSE = "enfuse, end to end"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    fuse: Callable[[Array], object]
    """Takes a stack (Z, C, Y, X); a peer converts to its own layout before the clock starts."""
    peer: str | None = None
    """Name of the row that it is compared with."""
    channels_last: bool = False


def opencv_pyramid(plane: Array) -> tuple[list[FloatArray], list[FloatArray]]:
    """Details and Gaussian levels of one plane (Y, X, C), float32."""
    gaussian = [plane.astype(np.float32)]
    for _ in range(LEVELS):
        gaussian.append(cv2.pyrDown(gaussian[-1]))
    sizes = [(level.shape[1], level.shape[0]) for level in gaussian]
    details = [
        cv2.subtract(gaussian[j], cv2.pyrUp(gaussian[j + 1], dstsize=sizes[j]))
        for j in range(LEVELS)
    ]
    return details, gaussian


def collapse(low: FloatArray, details: list[FloatArray]) -> Array:
    """The image (Y, X, C) uint8."""
    image = low
    for detail in reversed(details):
        image = cv2.add(detail, cv2.pyrUp(image, dstsize=(detail.shape[1], detail.shape[0])))
    return cv2.convertScaleAbs(image)


def opencv_max(stack: Array) -> Array:
    """The usual loop: the detail of largest magnitude, the mean of the low-passes."""
    best: list[FloatArray] = []
    activity: list[FloatArray] = []
    low: FloatArray | None = None
    for plane in stack:
        details, gaussian = opencv_pyramid(plane)
        magnitude = [cv2.transform(np.abs(d), np.ones((1, 3), np.float32)) for d in details]
        if low is None:
            best, activity, low = details, magnitude, gaussian[-1]
            continue
        for j in range(LEVELS):
            wins = cv2.compare(magnitude[j], activity[j], cv2.CMP_GT)
            cv2.copyTo(details[j], wins, best[j])
            cv2.max(magnitude[j], activity[j], activity[j])
        low = cv2.add(low, gaussian[-1])
    assert low is not None
    return collapse(low / np.float32(len(stack)), best)


def opencv_soft(stack: Array) -> Array:
    """The method of `lpp`: weights activity ** 8 of 2 x 2 blocks over a window, clamped."""
    sums: list[FloatArray] = []
    totals: list[FloatArray] = []
    low: FloatArray | None = None
    lowest, highest = stack[0].copy(), stack[0].copy()
    taps = binomial_window(Lpp().window)
    for z, plane in enumerate(stack):
        cv2.min(lowest, plane, lowest)
        cv2.max(highest, plane, highest)
        details, gaussian = opencv_pyramid(plane)
        for j in range(LEVELS):
            magnitude = cv2.transform(np.abs(details[j]), np.full((1, 3), 1 / 765, np.float32))
            half = (magnitude.shape[1] // 2, magnitude.shape[0] // 2)
            block = cv2.resize(magnitude, half, interpolation=cv2.INTER_AREA)
            weight = cv2.sepFilter2D(block, -1, taps, taps)
            weight += np.float32(FLOOR)
            for _ in range(POWER.bit_length() - 1):
                cv2.multiply(weight, weight, weight)
            size = (magnitude.shape[1], magnitude.shape[0])
            fine = cv2.resize(weight, size, interpolation=cv2.INTER_NEAREST)
            cv2.multiply(details[j], cv2.merge([fine] * 3), details[j])
            if z == 0:
                sums.append(details[j])
                totals.append(weight)
            else:
                cv2.add(sums[j], details[j], sums[j])
                cv2.add(totals[j], weight, totals[j])
        coarsest = cv2.multiply(gaussian[-1], cv2.merge([weight] * 3))
        low = coarsest if low is None else cv2.add(low, coarsest)
    assert low is not None
    for j in range(LEVELS):
        size = (sums[j].shape[1], sums[j].shape[0])
        total = cv2.resize(totals[j], size, interpolation=cv2.INTER_NEAREST)
        cv2.divide(sums[j], cv2.merge([total] * 3), sums[j])
    image = collapse(cv2.divide(low, cv2.merge([totals[-1]] * 3)), sums)
    return cv2.min(cv2.max(image, lowest), highest)


ROWS = [
    Row("lpp", Lpp(), "OpenCV loop, max"),
    Row("lpp selection=max", Lpp(selection="max"), "OpenCV loop, max"),
    Row("OpenCV loop, max", opencv_max, channels_last=True),
    Row("OpenCV loop, as lpp", opencv_soft, channels_last=True),
    Row("wt", Wt(), PYWAVELETS),
    Row("wt db2 levels=4", Wt(wavelet="db2", levels=4), PYWAVELETS),
    Row(PYWAVELETS, pywavelets_max),
    Row("dtcwt", Dtcwt(), DTCWT_PACKAGE),
    Row("dtcwt levels=4", Dtcwt(levels=4), DTCWT_PACKAGE),
]


def parallel_seconds(work: Callable[[int], object], threads: int) -> float:
    """Wall time in seconds of ``work(0)`` … ``work(threads - 1)``, at once."""
    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def copy_bandwidth(threads: int) -> float:
    """Bytes a second, read and written together, that ``threads`` copies move at once."""
    size = 2**27
    source = [np.ones(size, np.uint8) for _ in range(threads)]
    target = [np.ones(size, np.uint8) for _ in range(threads)]
    seconds = min(
        parallel_seconds(lambda i: np.copyto(target[i], source[i]), threads) for _ in range(5)
    )
    return 2 * size * threads / seconds


def main() -> None:
    """Measure all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=(1200, 1920), metavar=("Y", "X"))
    parser.add_argument("--planes", type=int, default=10)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--dtcwt-python", metavar="PATH")
    parser.add_argument("--enfuse-rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    shape = (options.planes, options.channels, *options.size)
    rng = np.random.default_rng(0)
    planar, last = [], []
    for _ in range(options.threads):
        image = cv2.GaussianBlur(rng.random((*options.size, options.channels)) * 255, (0, 0), 1.5)
        planes = [cv2.GaussianBlur(image, (0, 0), 0.5 + abs(z - 4)) for z in range(options.planes)]
        noisy = np.stack(planes) + rng.standard_normal((options.planes, *image.shape)) * 2
        last.append(noisy.clip(0, 255).astype(np.uint8))
        planar.append(np.ascontiguousarray(last[-1].transpose(0, 3, 1, 2)))
    for row in ROWS:
        start = time.perf_counter()
        (row.fuse)((last if row.channels_last else planar)[0][:2])
        print(f"{row.name}: first call {time.perf_counter() - start:.2f} s")
    seconds: dict[str, list[float]] = {row.name: [] for row in ROWS}
    package = DtcwtPackage(options.dtcwt_python, planar) if options.dtcwt_python else None
    if package:
        seconds[DTCWT_PACKAGE] = []
    enfuse = None
    if options.enfuse_rounds == 0 or options.channels != 3:
        print("enfuse is left out")
    elif Enfuse.installed():
        enfuse = Enfuse(last)
        seconds[ENFUSE] = []
    else:
        print("enfuse is not installed (Debian package enfuse): its row is left out")
    for number in range(options.rounds):
        for row in ROWS:
            stacks = last if row.channels_last else planar
            work = lambda i, row=row, stacks=stacks: row.fuse(stacks[i])  # noqa: E731
            seconds[row.name].append(parallel_seconds(work, options.threads))
        if package:
            seconds[DTCWT_PACKAGE].append(package.seconds())
        if enfuse and number < options.enfuse_rounds:
            seconds[ENFUSE].append(enfuse.seconds())
    if package:
        package.close()
    if enfuse:
        enfuse.close()
    bandwidth = copy_bandwidth(options.threads)
    pixels = options.threads * options.planes * options.size[0] * options.size[1]
    floor = options.threads * (np.prod(shape) + np.prod(shape[1:])) / bandwidth
    print(
        f"\n{options.threads} threads, each {options.planes} planes of {options.size[1]} x ", end=""
    )
    print(f"{options.size[0]} x {options.channels} uint8; copy {bandwidth / 1e9:.1f} GB/s")
    print(f"{'':22}{'MP-planes/s':>12}{'of peer':>9}{'of enfuse':>11}{'x floor time':>14}")
    peers = {row.name: row.peer for row in ROWS}
    for name, measured in seconds.items():
        median, peer = statistics.median(measured), peers.get(name)
        ratios = [
            f"{statistics.median(seconds[other]) / median:.1f} x" if other in seconds else ""
            for other in (peer, ENFUSE)
        ]
        print(f"{name:22}{pixels / median / 1e6:12.1f}{ratios[0]:>9}{ratios[1]:>11}", end="")
        print(f"{median / floor:14.1f}")


if __name__ == "__main__":
    main()
