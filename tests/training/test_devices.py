"""Two processes learn what one does with a batch as large as both of theirs, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slidefusion.errors import OptionError, ProcessingError
from slidefusion.training import trainer
from slidefusion.training.devices import count_devices, in_processes
from slidefusion.training.run import train
from slidefusion.training.samples import Crops, open_pairs
from tests.training import parts
from tests.training.test_trainer import small

CPU: dict[str, Any] = {"accelerator": "cpu", "blur_model": None}


def is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(what: Any, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_parts_are_what_one_batch_has(corpus: list[Path]) -> None:
    """Whatever the size: crops and their augmentation have one numbering over all processes."""
    from slidefusion.training.run import _learner

    pairs = open_pairs(corpus)
    for method in ("focusgan", "blur", "cnn"):
        planes = 3 if method == "cnn" else 1
        for size, count in ((1, 3), (3, 2), (2, 2)):
            part = small(method, batch=size)
            crops = Crops(pairs, planes=planes, side_px=64)
            learner = _learner(part, crops, None)
            parts = [learner.sample(5, k) for k in range(count)]
            whole = _learner(small(method, batch=size * count), crops, None).sample(5)
            for key, value in whole.items():
                assert torch.equal(torch.cat([part[key] for part in parts]), value)


@pytest.mark.slow
def test_two_processes_are_one_with_both_batches(corpus: list[Path], tmp_path: Path) -> None:
    """Without a discriminator: batch normalisation sees only its own process's crops. The second
    run is interrupted and resumed on the way."""
    changes: dict[str, Any] = {"steps": 12, "warm_up": 100, "learning_rate": 0.01}
    one = train(small("focusgan", batch=2, **changes), corpus, tmp_path / "one", **CPU)
    half = small("focusgan", batch=1, **changes)
    told: list[int] = []
    options = {**CPU, "devices": 2, "checkpoint_steps": 4}
    options["on_step"] = lambda step, losses: told.append(step)
    assert train(half, corpus, tmp_path / "two", stop_after=6, **options) is None
    two = train(half, corpus, tmp_path / "two", **options)
    assert told == [*range(1, 7), *range(5, 13)]
    assert one is not None and two is not None
    found, expected = load_file(two), load_file(one)
    for key, value in expected.items():
        assert (found[key] - value).abs().max() <= 1e-4 * max(1.0, float(value.abs().max())), key
    curves = [
        [line.split(",") for line in (folder / "losses.csv").read_text().splitlines()[1:]]
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert [row[0] for row in curves[0]] == [row[0] for row in curves[1]] == ["10", "12"]
    for a, b in zip(*curves, strict=True):
        assert float(a[1]) == pytest.approx(float(b[1]), rel=1e-4)


@pytest.mark.slow
def test_both_processes_agree(corpus: list[Path], tmp_path: Path) -> None:
    """With blur model, discriminator and batch normalisation: other crops, the same weights."""
    from slidefusion import weights
    from slidefusion.training.run import _learner

    recipe = small("focusgan", steps=4, batch=1, warm_up=1)
    crops = Crops(open_pairs(corpus), planes=1, side_px=64)
    blur = weights.load("blur", fuser="blur")
    learner, validation = _learner(recipe, crops, blur), _learner(recipe, crops, blur)
    before = {
        name: torch.cat([p.detach().flatten() for p in module.parameters()])
        for name, module in learner.modules.items()
    }
    average = trainer.WeightAverage(learner.modules["generator"], 0.9, 1.0, trained=False)
    job = trainer._Run(learner, average, validation, tmp_path, 2, None, "{}")
    found = in_processes(2, parts.train_and_compare, job, lambda step, losses: None)
    first, second = found.pop("crops")
    assert not torch.equal(first, second)
    assert set(found) == {"generator", "discriminator"}
    for name, (first, second) in found.items():
        assert torch.equal(first, second) and not torch.equal(first, before[name])
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == 3, "written by one"


def test_an_error_ends_all() -> None:
    begun: list[int] = []
    for error, expected in (
        (OptionError("that is not so"), pytest.raises(OptionError, match=r"^that is not so$")),
        (
            ValueError("odd"),
            pytest.raises(ProcessingError, match=r"process 2 of 2.*ValueError: odd"),
        ),
    ):
        with expected:
            in_processes(2, parts.raise_in_the_second, error, lambda what, pid: begun.append(pid))
    assert not any(is_alive(pid) for pid in begun)


def test_a_death_ends_all(tmp_path: Path) -> None:
    with pytest.raises(ProcessingError, match=r"process 2 of 2 .* ended unexpectedly"):
        in_processes(2, parts.die_in_the_second, tmp_path, print)
    assert not any(is_alive(int(path.name)) for path in tmp_path.iterdir())


def test_a_script_that_starts_processes_at_once_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from slidefusion.training.devices import in_processes\n"
        "in_processes(2, print, b'more than a pipe holds' * 100_000, print)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "ended before it began" in ended.stderr.splitlines()[-1]
    assert "if __name__ == '__main__':" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_ends_all(sent: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a terminal, kill -9 to one: no other is left."""
    script = (
        "import sys; from pathlib import Path\n"
        "from slidefusion.training.devices import in_processes\n"
        "from tests.training import parts\n"
        "in_processes(2, parts.wait, Path(sys.argv[1]), print)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -sent
    assert errors.count("Traceback") == (1 if sent == signal.SIGINT else 0)
    wait_until(lambda: not any(is_alive(int(path.name)) for path in tmp_path.iterdir()))


def test_what_cannot_be_is_refused(corpus: list[Path], tmp_path: Path) -> None:
    for wrong in (0, -1, "two"):
        with pytest.raises(OptionError, match="give a number, 1 or more, or 'auto'"):
            count_devices(wrong, "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="this machine has 0 GPUs"):
            train(small("blur"), corpus, tmp_path, accelerator="cuda", devices=2)


def test_a_slurm_job_of_several_tasks_is_no_matter(
    corpus: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NTASKS", "2"), ("JOB_NAME", "x"), ("JOB_ID", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert train(small("blur", steps=1), corpus, tmp_path, **CPU)
