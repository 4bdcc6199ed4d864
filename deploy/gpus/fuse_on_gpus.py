"""Fuse a stack on all GPUs of this machine: one process, one thread, one GPU.

Needs ``pip install dask-cuda`` and a CUDA build of PyTorch.

    python fuse_on_gpus.py /data/stack.zarr /data/slide.zarr
    CUDA_VISIBLE_DEVICES=0,1 python fuse_on_gpus.py s3://bucket/stack.zarr s3://bucket/slide.zarr
"""

from __future__ import annotations

import argparse
from typing import Any

from distributed import Client, LocalCluster

import slidefusion as sf

# dask-cuda gives each process a GPU of its own, but does not declare it by itself: without this,
# fusers that need a GPU are refused.
DECLARED = {"GPU": 1}


def make_cluster(args: argparse.Namespace) -> Any:
    """A worker process a GPU."""
    if args.local:
        return LocalCluster(
            n_workers=2, threads_per_worker=1, resources=DECLARED, dashboard_address=None
        )
    from dask_cuda import LocalCUDACluster

    return LocalCUDACluster(threads_per_worker=1, memory_limit=args.memory, resources=DECLARED)


def main() -> None:
    """Fuse, and say where the slide is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stack", help="OME-Zarr focus stack: a path or URL")
    parser.add_argument("out", help="OME-Zarr slide to write")
    parser.add_argument("--fuser", default="lpp")
    parser.add_argument("--device", help="cuda, or cpu (the default with --local)")
    parser.add_argument("--memory", default="16GB", help="of the host, a process (default: 16GB)")
    parser.add_argument("--local", action="store_true", help="two processes without a GPU instead")
    args = parser.parse_args()
    device = args.device or ("cpu" if args.local else "cuda")
    with make_cluster(args) as cluster, Client(cluster) as client:
        client.wait_for_workers(1)
        sf.fuse(args.stack, args.fuser, out=args.out, device=device, client=client)
    print(f"{args.out} is complete")


if __name__ == "__main__":
    main()
