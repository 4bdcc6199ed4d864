"""Batch over many small slides while its processes are killed, again and again.

    python benchmarks/soak.py                                   # 200 slides, 30 minutes
    python benchmarks/soak.py --slides 40 --minutes 3

Phantoms are written as OME-TIFF and copied. Each slide is made once without a batch, for its bytes.
Then `slidefusion batch` runs on a cluster of two processes: once in peace, with its memory
watched, and then round after round while a worker or the batch itself gets SIGKILL at random
moments, run again until it says that all is done. Each round ends with a check of all bytes of all
slides, and of everything that lies in the folder. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slidefusion as sf
from slidefusion.batch.manifest import Row, read_manifest
from slidefusion.batch.slide import discard
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom

Digests = dict[str, str]

_WORKERS = 2
_PATIENCE_S = 20.0


def make_slides(folder: Path, count: int, different: int, side: int, planes: int) -> None:
    """``count`` OME-TIFF, ``different`` of them with contents of their own."""
    import tifffile

    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"slide-{number:04d}.ome.tif"
        if number >= different:
            shutil.copy(folder / f"slide-{number % different:04d}.ome.tif", path)
            continue
        phantom = Phantom(side, side, planes=planes, seed=number)
        y_um, x_um = phantom.pixel_size_um
        metadata = {
            "axes": "ZYXS",
            "PhysicalSizeX": x_um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": y_um,
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZ": phantom.settings.z_step_um,
            "PhysicalSizeZUnit": "µm",
        }
        pixels = phantom.render(Window(0, 0, side, side)).stack.transpose(0, 2, 3, 1)
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128), metadata=metadata)


def digests_of(store: str) -> Digests:
    """SHA-256 of every file of a store."""
    root = Path(store)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def undisturbed(row: Row) -> Digests:
    """The bytes of a slide that is converted and fused once, alone, at the same place."""
    assert row.stack is not None
    sf.convert(row.source, row.stack, progress=False, **row.convert)
    sf.fuse(row.stack, row.fuser, out=row.out, progress=False, **row.fuse)
    found = digests_of(row.out)
    discard(row.out)
    discard(row.stack)
    return found


@dataclass
class Round:
    """What happened until all slides of one batch were done."""

    name: str
    runs: int = 0
    failed_runs: int = 0
    batch_kills: int = 0
    worker_kills: int = 0
    seconds: float = 0.0
    different: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the batch process started, and its resident megabytes; of its longest run."""

    def line(self) -> str:
        return (
            f"{self.name:>8} {self.runs:5d} {self.failed_runs:7d} {self.batch_kills:6d} "
            f"{self.worker_kills:8d} {self.seconds:8.0f} {len(self.different):10d} "
            f"{len(self.stray):6d}"
        )


HEAD = "   round  runs  failed  kills  workers  seconds  different  stray"


class Soak:
    def __init__(self, folder: Path, cluster: Any, seed: int, every_s: float) -> None:
        self.folder, self.cluster, self.every_s = folder, cluster, every_s
        self.random = random.Random(seed)
        self.manifest = folder / "slides.csv"
        self.out = folder / "out"
        self.log = folder.parent / "batch.log"
        self.last_seen = time.monotonic()

    def round(self, name: str, expected: dict[str, Digests], until: float) -> Round:
        """From nothing to all slides done, with kills until the clock says ``until``."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.manifest.with_name("slides.status.csv").unlink(missing_ok=True)
        found, start = Round(name), time.monotonic()
        while True:
            found.runs += 1
            killed = found.batch_kills
            code = self._run(found, until)
            if code == 0:
                break
            found.failed_runs += found.batch_kills == killed
            if found.failed_runs > 20:
                raise SystemExit(f"the batch fails again and again: see {self.log}")
        found.seconds = time.monotonic() - start
        for out, digests in expected.items():
            now = digests_of(out)
            if now != digests:
                names = sorted({*now, *digests})
                found.different += [f"{out}/{n}" for n in names if now.get(n) != digests.get(n)]
        allowed = {self.manifest.name, "slides.status.csv", "in", "out"}
        found.stray = [str(p) for p in self.folder.iterdir() if p.name not in allowed]
        found.stray += [str(p) for p in self.out.iterdir() if str(p) not in expected]
        return found

    def _run(self, found: Round, until: float) -> int:
        """One process of the batch, watched, and killed or not; its exit code."""
        command = [
            sys.executable, "-c", "from slidefusion.cli import main; raise SystemExit(main())",
            "batch", str(self.manifest), "--out-dir", str(self.out), "--no-progress",
            "--client", self.cluster.scheduler_address,
        ]  # fmt: skip
        with self.log.open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        start, memory = time.monotonic(), []
        due = start + self._pause()
        while process.poll() is None:
            time.sleep(0.25)
            now = time.monotonic()
            memory.append((now - start, resident_mb(process.pid)))
            self._replace_workers(now)
            if due < now < until:
                due = now + self._pause()
                if self.random.random() < 0.4:
                    process.send_signal(signal.SIGKILL)
                    found.batch_kills += 1
                else:
                    found.worker_kills += self._kill_worker()
        memory = [(at, mb) for at, mb in memory if mb]
        if len(memory) > len(found.memory_mb):
            found.memory_mb = memory
        return process.wait()

    def _pause(self) -> float:
        return self.random.uniform(0.05, 2 * self.every_s)

    def _kill_worker(self) -> int:
        """One that has joined: a nanny whose worker dies before that starts no other."""
        joined = set(self.cluster.scheduler.workers)
        pids = [
            nanny.pid
            for nanny in self.cluster.workers.values()
            if nanny.pid is not None and nanny.worker_address in joined
        ]
        if not pids:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.random.choice(pids), signal.SIGKILL)
            return 1
        return 0

    def _replace_workers(self, now: float) -> None:
        """As a cluster manager would, when none has been there for a while."""
        if self.cluster.scheduler.workers:
            self.last_seen = now
        elif now - self.last_seen > _PATIENCE_S:
            self.last_seen = now
            self.cluster.scale(0)
            self.cluster.scale(_WORKERS)


def resident_mb(pid: int) -> float:
    """0 when the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def print_memory(found: Round) -> float:
    """Memory of the batch over time; that at the end as a multiple of that after a quarter."""
    times, sizes = zip(*found.memory_mb, strict=True)
    print(f"\nresident memory of the batch, {times[-1]:.0f} s in peace")
    points = [round(k * (len(times) - 1) / 8) for k in range(1, 9)]
    print("  s  " + "".join(f"{times[k]:8.0f}" for k in points))
    print("  MB " + "".join(f"{sizes[k]:8.0f}" for k in points))
    return sizes[-2 if len(sizes) > 1 else -1] / sizes[len(sizes) // 4]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--different", type=int, default=12)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--planes", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=8, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from distributed import LocalCluster

    with tempfile.TemporaryDirectory(prefix="slidefusion-soak-") as temporary:
        folder = Path(temporary, "slides")
        count = arguments.slides
        make_slides(
            folder / "in", count, min(count, arguments.different), arguments.side, arguments.planes
        )
        names = sorted(path.name for path in (folder / "in").iterdir())
        (folder / "slides.csv").write_text("source\n" + "".join(f"in/{n}\n" for n in names))
        clock = time.monotonic()
        rows = read_manifest(folder / "slides.csv", str(folder / "out"), "lpp")
        expected = {row.out: undisturbed(row) for row in rows}
        alone = (time.monotonic() - clock) / count
        print(f"{count} slides, {alone:.2f} s each, alone and one after the other\n\n{HEAD}")
        with LocalCluster(
            n_workers=_WORKERS,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            local_directory=str(Path(temporary, "dask")),
        ) as cluster:
            soak = Soak(folder, cluster, arguments.seed, arguments.every)
            rounds = [soak.round("peace", expected, 0.0)]
            print(rounds[0].line(), flush=True)
            until = time.monotonic() + 60 * arguments.minutes
            while time.monotonic() < until:
                rounds.append(soak.round(str(len(rounds)), expected, until))
                print(rounds[-1].line(), flush=True)
        growth = print_memory(rounds[0])
    kills = sum(r.batch_kills + r.worker_kills for r in rounds)
    wrong = [name for r in rounds for name in (*r.different, *r.stray)]
    print(
        f"\n{len(rounds) * count} slides made, {kills} kills, {len(wrong)} files wrong or stray, "
        f"memory at the end {growth:.2f} times that after a quarter"
    )
    for name in wrong[:20]:
        print(f"  {name}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
