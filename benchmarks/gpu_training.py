"""Train weights on a GPU in a given time: all compact generators further, then wide ones.

    python benchmarks/gpu_training.py --out weights --seconds 400

Makes a corpus of phantoms with all processors (``--corpus-only`` does nothing else), then trains
the compact generators, at the same time, each from the weights that ship, and then ``focusgan`` of
the paper's width for one plane and for three, each from the compact weights widened, in what time
is left (``--only`` names fewer). How many updates that makes follows from how long a few take. All
compact generators do as many, of the same crops.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PHANTOMS = 400
FIRST_SEED = 100_000
TRIAL = 100
"""Updates that are timed, the second half of them with the discriminator."""
COMPACT_SHARE = 0.4
"""Of the time, for the compact generators."""
FURTHER: dict[str, Any] = {"seed": 2, "batch": 8, "crop_px": 256, "learning_rate": 5e-4}
WIDE: dict[str, Any] = {
    "seed": 3,
    "batch": 16,
    "crop_px": 256,
    "learning_rate": 2e-4,
    "moved": 0.7,
    "network.width": 64,
    "discriminator.width": 32,
}


def jobs() -> list[dict[str, Any]]:
    """What is trained: name, method, planes, blur model, changes of the compact recipe."""
    made = []
    for planes in (1, 3):
        for method in ("focusgan", "fusiongan", "pix2pix", "srgan"):
            name = f"{method}-{planes}"
            blur = "blur" if method == "focusgan" else None
            changes = {**FURTHER, "start": name}
            made.append(
                {"name": name, "method": method, "planes": planes, "blur": blur, "changes": changes}
            )
        changes = {**FURTHER, "start": f"focusgan-{planes}-nomask"}
        made.append(
            {**made[-4], "name": f"focusgan-{planes}-nomask", "blur": None, "changes": changes}
        )
    for planes in (1, 3):
        changes = {**WIDE, "start": f"focusgan-{planes}"}
        wide = {"name": f"focusgan-{planes}-wide", "planes": planes, "changes": changes}
        made.append({**made[0], **wide})
    return made


def command_of(job: dict[str, Any], steps: int) -> str:
    """How to train the same with ``slidefusion train``."""
    words = [f"slidefusion train {job['method']} --phantoms {PHANTOMS} --corpus corpus"]
    words += [f"--planes {job['planes']} --blur-model {job['blur'] or 'none'}"]
    words += [f"-O {key}={value}" for key, value in {"steps": steps, **job["changes"]}.items()]
    return " ".join([*words, f"--out runs/{job['name']}"])


def recipe_of(job: dict[str, Any], steps: int, warm_up: int | None = None) -> Any:
    """Its recipe with so many updates."""
    from slidefusion.training.recipe import compact

    made = compact(job["method"], job["planes"], steps=steps).changed(job["changes"])
    return made if warm_up is None else made.changed({"warm_up": warm_up})


def work(job: dict[str, Any], corpus: str, folder: str, accelerator: str) -> None:
    """A process: a trial, then the run that it is told to do, through files in ``folder``."""
    here = Path(folder) / job["name"]
    here.mkdir(parents=True, exist_ok=True)
    try:
        import torch

        from slidefusion.training.corpus import phantom_paths
        from slidefusion.training.run import train

        torch.set_num_threads(1)
        stacks = phantom_paths(corpus, PHANTOMS, first_seed=FIRST_SEED)
        wait_for(here / "begin")
        times: list[float] = []

        def trial(step: int, losses: dict[str, float]) -> None:
            times.append(time.perf_counter())

        kept = {
            "blur_model": job["blur"],
            "accelerator": accelerator,
            "name": job["name"],
            "checkpoint_steps": 10_000,
        }
        train(recipe_of(job, TRIAL, TRIAL // 2), stacks, here / "trial", on_step=trial, **kept)
        half = TRIAL // 2
        content = (times[half - 1] - times[10]) / (half - 11)
        judged = (times[-2] - times[half + 10]) / (TRIAL - half - 12)
        write(here / "rate", {"seconds_a_step": 0.7 * content + 0.3 * judged})
        steps = json.loads(wait_for(here / "go"))["steps"]

        def told(step: int, losses: dict[str, float]) -> None:
            if step % 250 == 0:
                print(f"{job['name']:20} {step:6} {losses}", flush=True)

        train(
            recipe_of(job, steps),
            stacks,
            here / "run",
            command=command_of(job, steps),
            on_step=told,
            **{**kept, "checkpoint_steps": steps},
        )
        write(here / "done", {"steps": steps})
    except BaseException:
        write(here / "failed", {"error": traceback.format_exc()})
        raise


def write(path: Path, content: dict[str, Any]) -> None:
    """As JSON, whole at once."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.rename(path)


def wait_for(path: Path) -> str:
    """The content of a file, when it is there; fails when the process is an orphan."""
    parent = os.getppid()
    while not path.exists():
        if os.getppid() != parent:
            sys.exit("left alone")
        time.sleep(0.05)
    return path.read_text()


def wait_all(paths: list[Path], until: float) -> bool:
    """Whether all files were there in time; a job that failed is told of, and not waited for."""
    waiting = set(paths)
    while waiting and time.monotonic() < until:
        for path in sorted(waiting):
            if path.exists():
                waiting.discard(path)
            elif (failed := path.with_name("failed")).exists():
                print(path.parent.name, json.loads(failed.read_text())["error"], flush=True)
                waiting.discard(path)
        time.sleep(0.05)
    return not waiting


def make_part(corpus: str, first: int, step: int) -> None:
    """A process's part of the corpus."""
    from slidefusion.training.corpus import write_corpus

    write_corpus(corpus, PHANTOMS - first, first_seed=FIRST_SEED + first, step=step)


def make_corpus(corpus: str, processes: int) -> None:
    """Phantoms and truths, by so many processes at a time."""
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    made = [
        context.Process(target=make_part, args=(corpus, k, processes)) for k in range(processes)
    ]
    for process in made:
        process.start()
    for process in made:
        process.join()
    if any(process.exitcode for process in made):
        sys.exit("the corpus could not be made")
    print(f"corpus: {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Corpus, compact generators, wide generator."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="weights")
    parser.add_argument("--corpus", default="corpus")
    parser.add_argument("--corpus-only", action="store_true")
    parser.add_argument("--seconds", type=float, default=400.0, help="for the training")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--accelerator", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--only", nargs="+", help="names of the weights to train")
    options = parser.parse_args()
    make_corpus(options.corpus, options.processes)
    if options.corpus_only:
        return
    start = time.monotonic()
    until = start + options.seconds
    context = multiprocessing.get_context("spawn")
    chosen = [job for job in jobs() if not options.only or job["name"] in options.only]
    out = Path(options.out)
    processes = [
        context.Process(
            target=work, args=(job, options.corpus, options.out, options.accelerator), daemon=True
        )
        for job in chosen
    ]
    for process in processes:
        process.start()
    wide = [job["name"] for job in chosen if job["name"].endswith("-wide")]
    compact = [job["name"] for job in chosen if job["name"] not in wide]
    for names, share in ((compact, COMPACT_SHARE), (wide, 1.0)):
        if not names:
            continue
        for name in names:
            (out / name).mkdir(parents=True, exist_ok=True)
            (out / name / "begin").touch()
        wait_all([out / name / "rate" for name in names], until)
        rates = {
            name: json.loads((out / name / "rate").read_text())["seconds_a_step"]
            for name in names
            if (out / name / "rate").exists()
        }
        if not rates:  # all failed, and said why
            continue
        left = until - time.monotonic()
        if wide and names is compact:
            left = min(left, share * options.seconds)
        slowest = max(rates.values())  # which the compact ones wait for, to have learnt as much
        for name, rate in rates.items():
            rate = rate if names is wide else slowest
            steps = max(50, int(0.9 * left / rate) // 50 * 50)
            print(f"{name:20} {rates[name] * 1e3:7.1f} ms an update; {steps} updates", flush=True)
            write(out / name / "go", {"steps": steps})
        print(f"  at {time.monotonic() - start:.0f} s", flush=True)
        wait_all([out / name / "done" for name in rates], until + 20)
        print(f"  done at {time.monotonic() - start:.0f} s", flush=True)
    for process in processes:
        process.kill()


if __name__ == "__main__":
    main()
