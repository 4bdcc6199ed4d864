"""What more processes gain, what larger slides cost, and what very many regions cost.

    python benchmarks/scale.py speed-up     # 16384 x 16384 px, 11 planes: 1 process, then 2
    python benchmarks/scale.py size         # 4096 to 32768 px, 11 planes, on 2 processes
    python benchmarks/scale.py regions      # 1,000,000 regions with nothing to do

All run on a Dask cluster of processes with one thread each. The scheduler lives in this process;
the call that is measured is made in a process of its own for each run, and the workers are new,
too, so that a peak of memory (VmHWM of /proc/PID/status) belongs to one run. The stack is a phantom
of 2048 x 2048 px, repeated: each block is the same file on the disk, so that reading costs what it
costs from the page cache however large the slide is. What is written goes to ``--folder``, and is
deleted at the end.

Costs that are paid once a run are not part of the rate, and are printed beside it: starting the
cluster, the first use of the fuser in all processes (loading, and compiling where nothing is
cached; each process fuses a region, so that it has its memory), planning (which measures the noise
of the slide), and all else before the first region is sent: asking the workers, creating the
output. Regions and what follows them to the complete slide are the rate. "read" is how often a
pixel is read, as windows overlap more where a slide has less of an edge. Wall times are only right
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from processes import apart, cluster_of
from slide_run import Run, digests_of, fuse_on, median_run, stack_of
from very_many_regions import run_regions

WANTED_SPEED_UP = 1.8
WANTED_SPREAD = 1.1


def print_seconds(rows: list[tuple[str, Run]], head: str) -> None:
    """What is paid once a run, what the rate is made of, and all together."""
    print(f"\n{'':10}{'seconds paid once a run':>46}{'of the rate':>22}")
    names = "cluster", "first use", "planning", "other start", "regions", "finishing", "call"
    print(f"{head:>10}" + "".join(f"{name:>12}" for name in (*names, "whole")))
    for name, run in rows:
        seconds = (
            run.cluster_s, run.first_use_s, run.planning_s, run.other_start_s,
            run.regions_s, run.finishing_s, run.call_s, run.whole_s,
        )  # fmt: skip
        print(f"{name:>10}" + "".join(f"{value:12.2f}" for value in seconds))


def print_costs(rows: list[tuple[str, Run]], head: str) -> None:
    """What a megapixel of a plane costs, and memory."""
    print(f"\n{'':37}{'wall ms a MP-plane':>24}{'processor ms a MP-plane':>27}{'peak MB':>11}")
    columns = "rate", "call", "whole", "all", "client", "sched.", "client"
    print(f"{head:>10}{'regions':>9}{'MP-planes':>11}{'read':>7}", end="")
    print("".join(f"{name:>9}" for name in columns) + "  each worker")
    for name, run in rows:
        seconds = (
            run.steady_s, run.call_s, run.whole_s,
            run.busy_s, run.client_busy_s, run.scheduler_busy_s,
        )  # fmt: skip
        print(
            f"{name:>10}{run.regions:9d}{run.megapixel_planes:11.0f}{run.read_times:7.3f}", end=""
        )
        print("".join(f"{1e3 * s / run.megapixel_planes:9.2f}" for s in seconds), end="")
        print(f"{run.client_peak_mb:9.0f}  ", end="")
        print(" ".join(f"{peak:.0f}" for peak in run.workers_peak_mb))


def verdict(good: bool) -> str:
    return "as wanted" if good else "NOT AS WANTED"


def speed_up(arguments: argparse.Namespace, folder: Path) -> None:
    """One process against several."""
    source, out = stack_of(folder, arguments.size, arguments.planes), folder / "slide.zarr"
    counts = (1, arguments.workers)
    runs: dict[int, list[Run]] = {count: [] for count in counts}
    digests: list[dict[str, str]] = []
    for repeat in range(arguments.repeat):
        for count in counts if repeat % 2 == 0 else counts[::-1]:
            runs[count].append(fuse_on(count, source, out, arguments.fuser))
            digests.append(digests_of(out))
            shutil.rmtree(out)
            run = runs[count][-1]
            print(f"{count} processes: {run.call_s:.1f} s, regions {run.regions_s:.1f}", flush=True)
    one, many = (median_run(runs[count]) for count in counts)
    rows = [(str(counts[0]), one), (str(counts[1]), many)]
    print_seconds(rows, "processes")
    print_costs(rows, "processes")
    same = all(found == digests[0] for found in digests)
    print(f"\n{len(digests)} slides of {len(digests[0])} files, ", end="")
    print("byte for byte the same" if same else "NOT THE SAME")
    for name in ("regions_s", "steady_s", "call_s"):
        ratio = getattr(one, name) / getattr(many, name)
        print(
            f"{name[:-2]:>8}: {arguments.workers} processes are {ratio:.2f} times as fast", end=""
        )
        print(f" ({verdict(ratio >= WANTED_SPEED_UP)})" if name == "call_s" else "")


def sizes(arguments: argparse.Namespace, folder: Path) -> None:
    """Larger and larger slides."""
    out, rows = folder / "slide.zarr", []
    for side in arguments.sizes:
        source, runs = stack_of(folder, side, arguments.planes), []
        # The large ones take so long that their time is well known after one.
        for _ in range(
            max(1, min(arguments.repeat, round(arguments.repeat * (16384 / side) ** 2)))
        ):
            runs.append(fuse_on(arguments.workers, source, out, arguments.fuser))
            shutil.rmtree(out)
        rows.append((str(side), median_run(runs)))
        print(
            f"fused {len(runs)} times, {rows[-1][1].call_s:.1f} s each, {runs[0].stored_mb:.0f} MB",
            flush=True,
        )
        shutil.rmtree(source)
    print_seconds(rows, "side px")
    print_costs(rows, "side px")
    print()
    for what, seconds in (
        ("wall time of the rate", lambda run: run.steady_s),
        ("processor time", lambda run: run.busy_s),
    ):
        costs = [seconds(run) / run.megapixel_planes for _, run in rows]
        spread = max(costs) / min(costs)
        print(f"{what}: the dearest size costs {spread:.3f} times the cheapest", end="")
        print(f" ({verdict(spread <= WANTED_SPREAD)})")


def regions(arguments: argparse.Namespace, folder: Path) -> None:
    """Very many regions with nothing to do."""
    with cluster_of(arguments.workers, folder) as (cluster, _):
        apart(run_regions, cluster.scheduler_address, os.getpid(), arguments.count, folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    for run in (speed_up, sizes, regions):
        name = {"speed_up": "speed-up", "sizes": "size"}.get(run.__name__, run.__name__)
        mode = modes.add_parser(name, help=run.__doc__)
        mode.set_defaults(run=run)
        mode.add_argument("--workers", type=int, default=2, help="processes of the cluster")
        mode.add_argument("--folder", type=Path, help="where to put the stores (default: /tmp)")
        if run is regions:
            mode.add_argument("--count", type=int, default=1_000_000)
            continue
        mode.add_argument("--fuser", default="lpp")
        mode.add_argument("--planes", type=int, default=11)
        mode.add_argument("--repeat", type=int, default=1 if run is speed_up else 3)
        if run is speed_up:
            mode.add_argument("--size", type=int, default=16384, help="side of the slide in px")
        else:
            mode.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slidefusion-scale-", dir=arguments.folder) as folder:
        arguments.run(arguments, Path(folder))


if __name__ == "__main__":
    main()
