"""Fuse a stack on machines that are reached by SSH.

Every machine needs the same Python environment at the same path, keys that log in without a
password, and the stack at the same path (or both stack and slide at s3://…). Needs
``pip install asyncssh`` here.

    python fuse_over_ssh.py /data/stack.zarr /data/slide.zarr --hosts node1 node2 node3
"""

from __future__ import annotations

import argparse
from typing import Any

from distributed import Client, LocalCluster, SSHCluster

import slidefusion as sf


def make_cluster(args: argparse.Namespace) -> Any:
    """A scheduler on the first host, and worker processes on all."""
    worker = {"nthreads": args.threads, "memory_limit": args.memory}
    if args.local:
        return LocalCluster(
            n_workers=args.processes,
            threads_per_worker=args.threads,
            memory_limit=args.memory,
            dashboard_address=None,
        )
    return SSHCluster(
        [args.hosts[0], *args.hosts],  # the first is the scheduler's; it has workers, too
        # Host keys are checked against ~/.ssh/known_hosts: log in once by hand.
        connect_options={"username": args.user} if args.user else {},
        worker_options={**worker, "n_workers": args.processes},
        scheduler_options={"port": 0, "dashboard_address": ":8787"},
        remote_python=args.python,
    )


def main() -> None:
    """Fuse, and say where the slide is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stack", help="OME-Zarr focus stack, at the same place on every machine")
    parser.add_argument("out", help="OME-Zarr slide to write, likewise")
    parser.add_argument("--fuser", default="lpp")
    parser.add_argument("--hosts", nargs="+", default=["localhost"])
    parser.add_argument("--user", help="if it is not the one here")
    parser.add_argument("--python", help="path of Python there, if it is not the one here")
    parser.add_argument("--processes", type=int, default=2, help="a machine (default: 2)")
    parser.add_argument("--threads", type=int, default=4, help="a process (default: 4)")
    parser.add_argument("--memory", default="8GB", help="a process (default: 8GB)")
    parser.add_argument("--local", action="store_true", help="processes here instead of SSH")
    args = parser.parse_args()
    with make_cluster(args) as cluster, Client(cluster) as client:
        client.wait_for_workers(1)
        sf.fuse(args.stack, args.fuser, out=args.out, client=client)
    print(f"{args.out} is complete")


if __name__ == "__main__":
    main()
