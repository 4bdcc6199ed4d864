"""Memory, graph and start-up: what must stay small however large the slide is.

    python benchmarks/limits.py                     # about 10 min and 9 GB of disk
    python benchmarks/limits.py --sizes 4096 8192

Peak resident memory is that of a fresh process that does nothing but `fuse`, as the operating
system counts it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from repeated_stack import make_stack

FUSE = """
import re, sys, time
import slidefusion as sf
start = time.perf_counter()
sf.fuse(sys.argv[1], sys.argv[2], out=sys.argv[3], progress=False)
taken = time.perf_counter() - start
# Not ru_maxrss: it starts at what the parent had when it started this process.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(taken, int(peak[1]) / 1e3)
"""

GRAPH = """
import time
import numpy as np
import zarr
import slidefusion as sf
array = zarr.create_array(
    sys.argv[1], shape=(3, 11, 100_000, 100_000), dtype="u1", chunks=(3, 1, 512, 512)
)
start = time.perf_counter()
image = sf.fuse(array, "lpp", chunks=316)
regions = image.data.npartitions
tasks = len(dict(image.__dask_graph__()))
print(regions, tasks, time.perf_counter() - start)
"""


def python(code: str, *arguments: str) -> list[str]:
    """What a fresh interpreter prints for ``code``."""
    command = [sys.executable, "-c", f"import sys\n{code}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def seconds(command: list[str], runs: int = 7) -> float:
    """Median wall seconds of a whole process."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--planes", type=int, default=11)
    parser.add_argument("--fuser", default="lpp")
    arguments = parser.parse_args()

    console_script = Path(sys.executable).with_name("slidefusion")
    print("start-up, median of 7")
    print(f"  python -c pass             {seconds([sys.executable, '-c', 'pass']):6.2f} s")
    importing = seconds([sys.executable, "-c", "import slidefusion"])
    print(f"  import slidefusion         {importing:6.2f} s")
    print(f"  slidefusion --help         {seconds([str(console_script), '--help']):6.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        regions, tasks, taken = python(GRAPH, f"{folder}/empty.zarr")
        print(f"\ngraph of {regions} regions: {tasks} tasks, {float(taken):.1f} s to plan")

        print(f"\npeak memory of fuse ({arguments.fuser}, {arguments.planes} planes, RGB)")
        for size in arguments.sizes:
            source, out = Path(folder) / "stack.zarr", Path(folder) / "out.zarr"
            make_stack(source, size, arguments.planes)
            taken, peak = python(FUSE, str(source), arguments.fuser, str(out))
            rate = size**2 * arguments.planes / 1e6 / float(taken)
            print(f"  {size:6d}^2   {float(peak):7.0f} MB   {rate:6.1f} MP-planes/s")
            shutil.rmtree(source)
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
