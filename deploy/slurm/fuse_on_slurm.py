"""Fuse a stack with workers that Slurm starts as jobs.

Run it on a login node (inside tmux or screen), or as a small job of its own: it starts the
scheduler in this process and submits one job for each set of workers. Needs
``pip install dask-jobqueue`` here, and slidefusion in the same environment on the nodes.

    python fuse_on_slurm.py /data/stack.zarr /data/slide.zarr --queue cpu --jobs 8
    python fuse_on_slurm.py /data/stack.zarr /data/slide.zarr --queue gpu --gpus --device cuda
    python fuse_on_slurm.py /data/stack.zarr /data/slide.zarr --show     # the job script, and end
"""

from __future__ import annotations

import argparse
from typing import Any

from distributed import Client, LocalCluster

import slidefusion as sf


def make_cluster(args: argparse.Namespace) -> Any:
    """The cluster; nothing is submitted to Slurm before it is scaled."""
    if args.local:
        return LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None)
    from dask_jobqueue import SLURMCluster

    options: dict[str, Any] = {
        "queue": args.queue,
        "account": args.account,
        "walltime": args.walltime,
        # A node's disk, not the shared one: workers keep their own files there.
        "local_directory": "/tmp",
        "log_directory": "slurm-logs",
        "death_timeout": 120,
    }
    if args.gpus:
        # One process, one thread, one GPU a job. What a worker declares as GPU decides where
        # fusers that need one are placed.
        options |= {
            "cores": 1,
            "job_cpu": 8,
            "processes": 1,
            "memory": "32GB",
            "job_extra_directives": ["--gres=gpu:1"],
            "worker_extra_args": ["--resources", "GPU=1"],
        }
    else:
        # Four threads a process: fusing releases the interpreter's lock, and a process that is
        # lost takes few regions with it. 2 GB a thread is plenty (see the README).
        options |= {"cores": 16, "processes": 4, "memory": "32GB"}
    return SLURMCluster(**options)


def main() -> None:
    """Fuse, and say where the slide is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "stack", help="OME-Zarr focus stack, on a disk that the nodes share, or s3://…"
    )
    parser.add_argument("out", help="OME-Zarr slide to write, likewise")
    parser.add_argument("--fuser", default="lpp")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--jobs", type=int, default=4, help="jobs to submit (default: 4)")
    parser.add_argument("--queue", default="cpu", help="Slurm partition")
    parser.add_argument("--account")
    parser.add_argument("--walltime", default="04:00:00")
    parser.add_argument("--gpus", action="store_true", help="one GPU a job")
    parser.add_argument("--show", action="store_true", help="print the job script and end")
    parser.add_argument("--local", action="store_true", help="processes here instead of Slurm")
    args = parser.parse_args()
    with make_cluster(args) as cluster:
        if args.show:
            print(cluster.job_script())
            return
        cluster.scale(**({"n": args.jobs} if args.local else {"jobs": args.jobs}))
        with Client(cluster) as client:
            # The rest may come when Slurm gives them: work is spread over who is there.
            client.wait_for_workers(1)
            sf.fuse(args.stack, args.fuser, out=args.out, device=args.device, client=client)
    print(f"{args.out} is complete")


if __name__ == "__main__":
    main()
