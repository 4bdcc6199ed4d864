"""The same slide by threads and by a cluster of processes: not one byte differs.

python on_a_cluster.py
python on_a_cluster.py --stack stack.zarr --processes 4

deploy/ has the clusters of several machines: Slurm, Kubernetes, SSH, GPUs. Only the client differs.
"""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path

from distributed import Client, LocalCluster

import slidefusion as sf
from slidefusion.phantom import Phantom
from slidefusion.verbs.phantom import write_phantom


def files(store: Path) -> dict[Path, str]:
    """Every file of a store: path within it, and digest."""
    found = (path for path in store.rglob("*") if path.is_file())
    return {path.relative_to(store): sha256(path.read_bytes()).hexdigest() for path in found}


def main() -> None:
    """Fuse twice and compare the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stack", help="OME-Zarr stack of your own")
    parser.add_argument("--size", type=int, default=1024, help="side of the synthetic smear in px")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("cluster"), help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="make the results anew")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    stack = args.stack
    if stack is None:
        phantom = Phantom(args.size, args.size, planes=5, seed=3)
        stack = write_phantom(phantom, args.out / "smear.zarr", overwrite=args.overwrite).stack

    # A slide bears the name of its store, so equal bytes need equal names.
    processes, threads = args.out / "processes/slide.zarr", args.out / "threads/slide.zarr"
    report = args.out / "report.json"
    # Small regions, so that there is something to share; left out, their size follows the memory.
    options = {"chunks": 256, "overwrite": args.overwrite}
    cluster = LocalCluster(n_workers=args.processes, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        sf.fuse(stack, out=processes, client=client, report=report, **options)
    sf.fuse(stack, out=threads, **options)

    for worker, did in json.loads(report.read_text())["workers"].items():
        print(f"{worker}: {did['regions']} regions, {did['peak_memory_bytes'] / 1e6:.0f} MB")
    expected = files(threads)
    same = files(processes) == expected
    print(f"{len(expected)} files, {'the same' if same else 'NOT the same'} bytes")


# Worker processes import this file: without the next line each would start a cluster of its own.
if __name__ == "__main__":
    main()
