"""The fusers on a GPU: do they give the CPU's pixels, how fast are they, what memory do they need.

Run by ``benchmarks/gpu.sh``. Each *section* is a function that prints to a report and says whether
its checks passed; one that cannot run (a package is missing) says why. To add one, write the
function and name it in ``SECTIONS``. ``--device torch-cpu --size 256`` tries the script without a
GPU; the figures mean nothing then.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if sys.version_info < (3, 11) or not all(map(importlib.util.find_spec, ("numpy", "torch"))):
    sys.exit(f"needs Python 3.11 with numpy and torch; this is {sys.version.split()[0]}")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from slidefusion.engine import fuse_array  # noqa: E402
from slidefusion.fusers import torch_dtcwt, torch_lpp, torch_subbands  # noqa: E402
from slidefusion.fusers.dtcwt import Dtcwt  # noqa: E402
from slidefusion.fusers.lpp import Lpp  # noqa: E402
from slidefusion.fusers.torch_device import torch_device  # noqa: E402

FUSERS: dict[str, tuple[Any, Any, Any]] = {  # class, back end, the module that asks for planes
    "lpp": (Lpp, torch_lpp, torch_lpp)
}
if importlib.util.find_spec("pywt"):
    from slidefusion.fusers import torch_wt
    from slidefusion.fusers.wt import Wt

    FUSERS["wt"] = (Wt, torch_wt, torch_subbands)
FUSERS["dtcwt"] = (Dtcwt, torch_dtcwt, torch_subbands)

COMPILING_S = 100
"""Most seconds for compiling and timing one fuser with torch.compile."""


class Report:
    """Prints lines and keeps them in a file, which is there in part if the machine is lost."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("", encoding="utf-8")

    def __call__(self, line: str = "") -> None:
        print(line, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def stack_of(planes: int, channels: int, side: int, dtype: Any = np.uint8) -> Any:
    """(Z, C, Y, X): texture that is sharp in another plane in each part of the field."""
    rng = np.random.default_rng(0)
    texture = rng.random((channels, side, side), dtype=np.float32)
    stack = np.empty((planes, channels, side, side), np.float32)
    where = np.arange(side) * planes // side
    for z in range(planes):
        contrast = 1 / (1 + 2 * np.abs(where - z)).astype(np.float32)
        noise = rng.random((channels, side, side), dtype=np.float32)
        stack[z] = 0.5 + (texture - 0.5) * contrast * 0.9 + (noise - 0.5) * 0.05
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    return (stack * top).astype(dtype)


def synchronise() -> None:
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Median time of ``work``, after one round that is not counted."""
    taken = []
    for _ in range(rounds + 1):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written together, of a copy within the device."""
    size = 2**30 if device.type == "cuda" else 2**26
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), 9)


def upload_bandwidth(device: torch.device) -> float:
    """Bytes a second out of pinned host memory."""
    source = torch.ones(2**27, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty_like(source, device=device)
    return 2**27 / seconds(lambda: target.copy_(source, non_blocking=True), 9)


def machine(report: Report, options: argparse.Namespace) -> bool:
    """What this is, and how fast it copies."""
    device = torch_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    report(
        f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, Python "
        f"{platform.python_version()}"
    )
    report(
        f"copy within the device {copy_bandwidth(device) / 1e9:.0f} GB/s (read + write), "
        f"upload from pinned memory {upload_bandwidth(device) / 1e9:.1f} GB/s"
    )
    missing = [name for name in ("numba", "pywt", "pytest") if not importlib.util.find_spec(name)]
    if missing:
        report(f"not installed, what needs it is left out: {', '.join(missing)}")
    return True


def agreement(report: Report, options: argparse.Namespace) -> bool:
    """The same pixels as on the CPU, and as in one piece."""
    reference = "cpu" if importlib.util.find_spec("numba") else "torch-cpu"
    report(f"against device={reference!r}, and cut into regions against one piece:")
    passed = True
    for name, (fuser_class, *_) in FUSERS.items():
        for dtype in (np.uint8, np.uint16, np.float32):
            for selection in ("soft", "max"):
                kept = {"background": "fuse", "selection": selection}
                stack = stack_of(5, 3, 400, dtype)
                fuser = fuser_class(**kept, device=options.device)
                ours, theirs = fuser(stack), fuser_class(**kept, device=reference)(stack)
                cut = fuse_array(fuser, stack.transpose(1, 0, 2, 3), 150)
                error = np.abs(ours.image.astype(np.float64) - theirs.image)
                depth = np.mean(ours.depth != theirs.depth)
                whole = np.array_equal(cut.image, ours.image) and np.array_equal(
                    cut.depth, ours.depth
                )
                allowed = 1e-5 if dtype == np.float32 else 1
                good = error.max() <= allowed and whole and depth < 1e-3
                good = good and (dtype != np.uint8 or np.mean(error > 0) < 1e-3)
                passed = passed and good
                report(
                    f"  {name:6}{selection:5}{np.dtype(dtype).name:8} largest difference "
                    f"{error.max():.2g}, pixels that differ {np.mean(error > 0):.4%}, depth "
                    f"{depth:.4%}, cut {'equal' if whole else 'DIFFERS'}"
                    f"{'' if good else '  FAILED'}"
                )
    return passed


def throughput(report: Report, options: argparse.Namespace) -> bool:
    """Megapixel-planes a second, with the planes on the device and out of host memory."""
    device = torch_device(options.device)
    stack = stack_of(options.planes, 3, options.size)
    bandwidth = copy_bandwidth(device)
    report(
        f"{options.planes} planes of {options.size} x {options.size} x 3 uint8, MP-planes/s; "
        "floor: each plane read and the image written once, at the copy bandwidth"
    )
    report(
        f"  {'':16}{'on device':>10}{'x floor':>9}{'from host':>11}{'peak MB':>9}{'bound MB':>10}"
    )
    passed = True
    for name in FUSERS:
        fuser = FUSERS[name][0](background="fuse", device=options.device)
        peak = peak_bytes(fuser, stack)
        bound = fuser.working_bytes(*stack.shape)
        passed = passed and peak <= bound
        row = timed(name, fuser, stack, bandwidth)
        report(f"  {name:16}{row}{peak / 1e6:9.0f}{bound / 1e6:10.0f}")
    return passed


def timed(name: str, fuser: Any, stack: Any, bandwidth: float, compiled: bool = False) -> str:
    """The three figures of one fuser: on the device, that in floors, from the host."""
    _, back_end, asks = FUSERS[name]
    device = torch_device(fuser.device)
    there = [torch.from_numpy(plane).to(device) for plane in stack]

    def resident(*_: object) -> Iterator[torch.Tensor]:
        return iter(there)

    def fuse() -> object:
        return back_end.fuse(stack, fuser, compiled=compiled)

    with mock.patch.object(asks, "uploaded", resident):
        on_device = seconds(fuse)
    from_host = seconds(fuse)
    pixels = stack.size / stack.shape[1] / 1e6
    floor = (stack.nbytes + stack[0].nbytes) / bandwidth
    return f"{pixels / on_device:10.0f}{on_device / floor:9.0f}{pixels / from_host:11.0f}"


def peak_bytes(fuser: Any, stack: Any) -> int:
    """Most device memory of one call; 0 on the CPU, where torch does not count it."""
    if not torch.cuda.is_available():
        return 0
    fuser(stack)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    fuser(stack)
    return int(torch.cuda.max_memory_allocated()) - before


def compiled(report: Report, options: argparse.Namespace) -> bool:
    """The same with torch.compile, each in a process that is ended when it takes too long."""
    report("with torch.compile (columns: on device, x floor, from host)")
    for name in FUSERS:
        command = [sys.executable, __file__, "--one-compiled", name, "--device", options.device]
        command += ["--size", str(options.size), "--planes", str(options.planes)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILING_S)
        except subprocess.TimeoutExpired:
            report(f"  {name:16} not within {COMPILING_S} s")
            continue
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        report(f"  {name:16}{lines[-1] if lines else 'no result'}")
    return True


def tests(report: Report, options: argparse.Namespace) -> bool:
    """The torch tests of the test suite."""
    needed = ("pytest", "pytest_timeout", "hypothesis", "numba", "pywt", "scipy")
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        report(f"left out, not installed: {', '.join(missing)}")
        return True
    paths = sorted(str(path) for path in (ROOT / "tests").rglob("test_torch_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    except subprocess.TimeoutExpired:
        report("not within 150 s  FAILED")
        return False
    for line in done.stdout.strip().splitlines()[-1 if done.returncode == 0 else -30 :]:
        report(f"  {line}")
    return done.returncode == 0


PAPER_SLIDE_TILES = 58_986
"""Tiles of 512 px at stride 384 in the method paper's slide of 86784 x 100352 px."""


def networks(report: Report, options: argparse.Namespace) -> bool:
    """The paper's generator (width 64), bfloat16: share of the matrix rate, time for its slide."""
    from torch.utils.flop_counter import FlopCounterMode

    from slidefusion.nets.generator import Generator
    from slidefusion.nets.inference import for_inference

    device = torch_device(options.device)
    small = device.type == "cpu"
    side = 128 if small else 512
    size = 1024 if small else 8192
    left = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    matrix_rate = 2 * size**3 / seconds(lambda: left @ left)
    report(f"bf16 matrix product: {matrix_rate / 1e12:.1f} TFLOP/s")
    stack = torch.rand(1 if small else 16, 1, 3, side, side)
    masks = torch.rand(len(stack), 1, side, side)

    def measured(name: str, run: Any, batch: int, flop: float) -> None:
        given = stack[:batch].to(device), masks[:batch].to(device)
        taken = seconds(lambda: run(*given)) / batch
        hours = taken * PAPER_SLIDE_TILES * (512 / side) ** 2 / 3600
        report(
            f"  {name:46}{batch:3} tiles{flop / taken / 1e12:8.2f} TFLOP/s "
            f"({flop / taken / matrix_rate:.0%}), the paper's slide in {hours:.2f} h"
        )

    passed = True
    forms = {
        "the paper's": {},
        "as trained here": {
            "unshuffle": 2,
            "edge_kernel": 5,
            "details": True,
            "upsample": "nearest",
            "residual": True,
        },
    }
    for form, settings in forms.items():
        with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
            Generator(width=64, **settings).eval()(stack[:1].to("meta"), masks[:1].to("meta"))
        flop = counter.get_total_flops()
        plain = Generator(width=64, masks=True, **settings).eval()
        with torch.inference_mode():
            exact = plain.to(device)(stack[:1].to(device), masks[:1].to(device))
            network = for_inference(plain, torch.bfloat16)
            made = network(stack[:1].to(device), masks[:1].to(device))
            error = float((made.float() - exact).abs().max()) * 255
            report(f"  {form}: largest difference to float32, of 255 steps: {error:.2f}")
            passed = passed and error < 16  # random weights exaggerate
            for batch in (1,) if small else (1, 2, 4, 8, 16):
                measured(f"{form}, as the fuser runs it", network, batch, flop)
            if small:
                continue
            with torch.backends.cudnn.flags(enabled=True, benchmark=True):
                measured(f"{form}, cuDNN tries its algorithms", network, 8, flop)
            profile(report, network, stack[:4].to(device), masks[:4].to(device))
            for batch in (1, 8):
                given = stack[:batch].to(device), masks[:batch].to(device)
                measured(f"{form}, CUDA graph", graphed(network, *given), batch, flop)
    return passed


def graphed(network: Any, *given: Any) -> Any:
    """The network on such a batch, launched as one."""
    for _ in range(3):
        network(*given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(*given)
    return lambda *_: graph.replay()


def profile(report: Report, network: Any, *given: Any) -> None:
    """The kernels that take most of a call's time."""
    from torch.profiler import ProfilerActivity, profile

    network(*given)
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        network(*given)
        synchronise()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in rows)
    for row in rows[:9]:
        share = row.self_device_time_total / total
        report(f"    {share:4.0%} {row.count:4} x {row.key[:100]}")


def learned(report: Report, options: argparse.Namespace) -> bool:
    """Learned fusers with the weights that ship: against the CPU's pixels, and how fast."""
    from slidefusion.fusers.cnn import Cnn
    from slidefusion.fusers.focusgan import Focusgan
    from slidefusion.fusers.fusiongan import FusionGan
    from slidefusion.fusers.pix2pix import Pix2Pix
    from slidefusion.fusers.srgan import Srgan

    device = "cpu" if options.device == "torch-cpu" else "cuda"
    passed = True
    for fuser_class in (Focusgan, FusionGan, Pix2Pix, Srgan, Cnn):
        for planes in (3,) if fuser_class is Cnn else (1, 3):
            stack = stack_of(planes, 3, 700)
            exact: dict[str, Any] = {"precision": "float32"}
            if fuser_class is not Cnn:
                exact |= {"tile": 256, "overlap": 64}
            ours = fuser_class(device=device, **exact)(stack)
            theirs = fuser_class(device="cpu", **exact)(stack)
            error = np.abs(ours.image.astype(float) - theirs.image)
            good = np.mean(error > 1) < 1e-3
            passed = passed and bool(good)
            large = stack_of(planes, 3, options.size)
            fuser = fuser_class(device=device)
            taken = seconds(lambda fuser=fuser, large=large: fuser(large), 3)
            report(
                f"  {fuser_class.name:10}{planes} planes: largest difference {error.max():.0f}, "
                f"over 1: {np.mean(error > 1):.4%}{'' if good else '  FAILED'}; "
                f"{large[0, 0].size / taken / 1e6:.1f} MP/s"
            )
    return passed


SECTIONS = [machine, agreement, throughput, networks, learned, tests, compiled]


def main() -> int:
    """Run the sections; 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="gpu.txt")
    parser.add_argument("--device", default="cuda", choices=("cuda", "torch-cpu"))
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--planes", type=int, default=11)
    parser.add_argument("--only", nargs="+", choices=[section.__name__ for section in SECTIONS])
    parser.add_argument("--one-compiled", choices=list(FUSERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_compiled:
        fuser = FUSERS[options.one_compiled][0](background="fuse", device=options.device)
        bandwidth = copy_bandwidth(torch_device(options.device))
        stack = stack_of(options.planes, 3, options.size)
        print(timed(options.one_compiled, fuser, stack, bandwidth, compiled=True))
        return 0
    report = Report(options.out)
    failed = []
    for section in SECTIONS:
        if options.only and section.__name__ not in options.only:
            continue
        start = time.perf_counter()
        report(f"== {section.__name__}: {(section.__doc__ or '').splitlines()[0]}")
        try:
            passed = section(report, options)
        except Exception as error:  # the other sections are worth having all the same
            report(f"  {type(error).__name__}: {error}  FAILED")
            passed = False
        if not passed:
            failed.append(section.__name__)
        report(f"   ({time.perf_counter() - start:.0f} s)")
    report(f"FAILED: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
