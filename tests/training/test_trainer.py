"""A run that is stopped, or killed, and goes on gives the same curve and the same weights."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slidefusion import weights
from slidefusion.errors import OptionError, OutputError, ProcessingError, WeightsError
from slidefusion.fusers.network_tiles import resolve_precision
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.training import trainer
from slidefusion.training.average import WeightAverage
from slidefusion.training.recipe import Recipe, compact
from slidefusion.training.run import _learner, train
from slidefusion.verbs.truths import beside

SMALL = {
    "focusgan": {"network": {"width": 4, "edge_kernel": 3, "residual": True}, "warm_up": 2},
    "fusiongan": {"network": {"width": 4}},
    "pix2pix": {"network": {"width": 2, "depth": 5}},
    "srgan": {"network": {"width": 4, "blocks": 2}},
    "blur": {"network": {"width": 4, "blocks": [1, 1, 1]}},
    "cnn": {"network": {"width": 4}},
}


def small(method: str, planes: int = 1, **changes: object) -> Recipe:
    settings = {"steps": 6, "batch": 2, "crop_px": 64, "precision": "float32", **SMALL[method]}
    if method not in ("blur", "cnn"):
        settings["discriminator"] = {"width": 4}
    return compact(method, planes, **{**settings, **changes})


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    (file,) = [path for path in folder.glob("*.safetensors") if path.stem != "checkpoint"]
    return load_file(file), (folder / "losses.csv").read_text()


@pytest.mark.parametrize("method", SMALL)
def test_resumed_equals_undisturbed(method: str, corpus: list[Path], tmp_path: Path) -> None:
    planes = 2 if method == "cnn" else 1
    recipe = small(method, planes, steps=22)
    options = {"blur_model": None, "accelerator": "cpu", "checkpoint_steps": 4}
    assert train(recipe, corpus, tmp_path / "whole", **options)
    assert train(recipe, corpus, tmp_path / "cut", stop_after=11, **options) is None
    assert train(recipe, corpus, tmp_path / "cut", **options)
    whole, whole_curve = outcome(tmp_path / "whole")
    cut, cut_curve = outcome(tmp_path / "cut")
    assert whole_curve == cut_curve and len(whole_curve.splitlines()) in (4, 5)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.fixture(scope="module")
def ten(corpus: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """So many that one is kept back for validation."""
    folder = tmp_path_factory.mktemp("ten")
    stacks = [folder / f"{number}.zarr" for number in range(10)]
    for number, stack in enumerate(stacks):
        original = corpus[number % len(corpus)]
        shutil.copytree(original, stack)
        shutil.copytree(beside(original, "truth"), beside(stack, "truth"))
    return stacks


def test_a_checkpoint_is_written_now_and_then(
    ten: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of slow updates that is ended between two validations has not begun in vain."""
    options = {"accelerator": "cpu", "checkpoint_steps": 100}
    train(small("srgan"), ten, tmp_path / "whole", **options)
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", -1.0)
    train(small("srgan"), ten, tmp_path / "cut", stop_after=3, **options)
    told: list[int] = []
    train(small("srgan"), ten, tmp_path / "cut", on_step=lambda n, _: told.append(n), **options)
    assert told == [4, 5, 6]
    for name in ("srgan-1.safetensors", "losses.csv", "validation.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_is_one_error(
    corpus: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    train(small("blur"), corpus, tmp_path, accelerator="cpu", stop_after=3, checkpoint_steps=3)
    monkeypatch.setattr(trainer, "write_checkpoint", full)
    with pytest.raises(OutputError, match=f"{tmp_path} cannot be written to .*No space left"):
        train(small("blur"), corpus, tmp_path, accelerator="cpu", checkpoint_steps=3)
    monkeypatch.undo()
    assert train(small("blur"), corpus, tmp_path, accelerator="cpu", checkpoint_steps=3)


def test_two_runs_in_one_folder_are_refused(corpus: list[Path], tmp_path: Path) -> None:
    def another(step: int, losses: dict[str, float]) -> None:
        with pytest.raises(OutputError, match=f"another run is writing {tmp_path}"):
            train(small("blur"), corpus, tmp_path, accelerator="cpu")

    assert train(small("blur", steps=1), corpus, tmp_path, accelerator="cpu", on_step=another)
    assert not (tmp_path / LOCK_NAME).exists()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match="is a file: give a folder"):
        train(small("blur"), corpus, file, accelerator="cpu")


def test_a_run_ended_before_its_validation_makes_up_for_it(ten: list[Path], tmp_path: Path) -> None:
    options = {"accelerator": "cpu", "checkpoint_steps": 3}
    train(small("blur"), ten, tmp_path / "whole", **options)
    for ended_at in (3, 6):  # in the middle, and at the end
        folder = tmp_path / str(ended_at)
        train(small("blur"), ten, folder, stop_after=ended_at, **options)
        table = folder / "validation.csv"
        rows = table.read_bytes().splitlines(keepends=True)
        table.write_bytes(b"".join(rows[:-1])) if len(rows) > 2 else table.unlink()
        train(small("blur"), ten, folder, **options)
        for name in ("validation.csv", "losses.csv"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        cards = [
            weights.load(str(f / "blur.safetensors")).card for f in (folder, tmp_path / "whole")
        ]
        assert cards[0].facts["metrics"] == cards[1].facts["metrics"] != {}


def test_killed_equals_undisturbed(corpus: list[Path], tmp_path: Path) -> None:
    """A real process and kill -9, at whatever step it is."""
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tests.training.test_trainer import small\n"
        "from slidefusion.training.run import train\n"
        "train(small('focusgan', steps=40), sys.argv[2:], sys.argv[1], blur_model=None,\n"
        "      accelerator='cpu', checkpoint_steps=3)\n"
    )

    def start(folder: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", script, str(tmp_path / folder), *map(str, corpus)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2])

    assert start("whole").wait() == 0
    killed = start("cut")
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    limit = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert start("cut").wait() == 0
    whole, whole_curve = outcome(tmp_path / "whole")
    cut, cut_curve = outcome(tmp_path / "cut")
    assert whole_curve == cut_curve
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.slow
def test_it_learns(corpus: list[Path], tmp_path: Path) -> None:
    """The blur model gets better than calling everything sharp."""
    recipe = small("blur", steps=120, batch=4)
    assert train(recipe, corpus, tmp_path, accelerator="cpu", checkpoint_steps=1000)
    with (tmp_path / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    start = sum(float(row["cross_entropy"]) for row in rows[:3]) / 3
    end = sum(float(row["cross_entropy"]) for row in rows[-3:]) / 3
    assert end < 0.8 * start


def test_the_card_says_what_was_done(corpus: list[Path], tmp_path: Path) -> None:
    blur = train(small("blur"), corpus, tmp_path / "blur", accelerator="cpu")
    assert blur is not None
    everything = sorted(corpus[0].parent.glob("*.zarr"))  # truths and depths, too, are no stacks
    path = train(
        small("focusgan", 3),
        everything,
        tmp_path / "run",
        blur_model=str(blur),
        accelerator="cpu",
        command="slidefusion train focusgan",
    )
    assert path is not None and path.name == "focusgan-3.safetensors"
    card = weights.load(str(path), fuser="focusgan", planes=3).card
    assert card.blur_model == "blur" and card.config["masks"] is True
    assert card.facts["steps"] == 6 and card.facts["command"] == "slidefusion train focusgan"
    assert card.facts["recipe"]["network"]["width"] == 4
    assert card.facts["trained_on"].startswith("2 phantoms")
    beside = weights.blur_model_of(card)
    assert beside is not None and Path(beside.where).parent == path.parent


def test_the_card_says_which_precision_auto_was(corpus: list[Path], tmp_path: Path) -> None:
    recipe = small("blur", precision="auto", steps=1)
    path = train(recipe, corpus, tmp_path, accelerator="cpu")
    assert path is not None
    found = weights.load(str(path)).card.facts["recipe"]["precision"]
    assert found == resolve_precision("auto", "cpu")


def test_a_run_starts_from_weights(corpus: list[Path], tmp_path: Path) -> None:
    cpu = {"accelerator": "cpu", "blur_model": None}
    first = train(small("focusgan"), corpus, tmp_path / "first", **cpu)
    still = small("focusgan", start=str(first), learning_rate=1e-12, average=0.0)
    second = train(still, corpus, tmp_path / "second", **cpu)
    one, two = weights.load(str(first)), weights.load(str(second))
    told = ("name", "sha256", "steps", "command", "commit", "started_from")
    assert two.card.facts["started_from"] == {key: one.card.facts[key] for key in told}
    assert not one.network.masks  # which a network with masks can start from, too
    masked = small("focusgan", start=str(first), steps=2)
    blur = train(small("blur"), corpus, tmp_path / "blur", accelerator="cpu")
    assert train(masked, corpus, tmp_path / "masked", accelerator="cpu", blur_model=blur)
    values = zip(one.network.parameters(), two.network.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=0.01, atol=1e-4) for a, b in values)  # both were bfloat16
    twice = {**small("focusgan").network, "width": 8}
    wide = small("focusgan", start=str(first), steps=2, network=twice)
    assert train(wide, corpus, tmp_path / "wide", **cpu)
    with pytest.raises(OptionError, match=r"width divides 6, not from .*change network\.\*"):
        train(
            small("focusgan", start=str(first), network={"width": 6}),
            corpus,
            tmp_path / "six",
            **cpu,
        )
    assert not (tmp_path / "six").exists()


def test_a_run_may_go_a_share_of_the_way(corpus: list[Path], tmp_path: Path) -> None:
    first = train(small("srgan"), corpus, tmp_path / "first", accelerator="cpu")
    begun = load_file(str(first))
    for moved in (1.0, 0.25):
        recipe = small("srgan", start=str(first), moved=moved, learning_rate=0.05)
        folder = tmp_path / str(moved)
        assert train(recipe, corpus, folder, accelerator="cpu", stop_after=4) is None
        assert train(recipe, corpus, folder, accelerator="cpu")
        assert train(recipe, corpus, folder, accelerator="cpu"), "a finished run stays as it is"
    whole, _ = outcome(tmp_path / "1.0")
    part, _ = outcome(tmp_path / "0.25")
    assert any((whole[key] - begun[key]).abs().max() > 0.02 for key in whole)
    weighted = [key for key, value in part.items() if value.is_floating_point()]
    for key in weighted:  # all three were rounded to bfloat16
        expected = torch.lerp(begun[key].float(), whole[key].float(), 0.25)
        torch.testing.assert_close(part[key].float(), expected, rtol=0.02, atol=1e-3)


def test_another_recipe_or_a_damaged_checkpoint_is_refused(
    corpus: list[Path], tmp_path: Path
) -> None:
    train(small("blur"), corpus, tmp_path, accelerator="cpu", checkpoint_steps=2, stop_after=4)
    with pytest.raises(OptionError, match=r"other settings \(steps: 6 then, 9 now"):
        train(small("blur", steps=9), corpus, tmp_path, accelerator="cpu")
    with pytest.raises(OptionError, match=r"other settings \(slides: '\d+, .* then, '1, "):
        train(small("blur"), corpus[:1], tmp_path, accelerator="cpu")
    with pytest.raises(OptionError, match=r"other settings \(devices: '1' then, '2' now"):
        train(small("blur"), corpus, tmp_path, accelerator="cpu", devices=2)
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    assert whole.count(b'"step":"4"') == 1
    checkpoint.write_bytes(whole.replace(b'"step":"4"', b'"step":"5"'))
    with pytest.raises(WeightsError, match=r"checkpoint.safetensors is damaged; delete it"):
        train(small("blur"), corpus, tmp_path, accelerator="cpu")
    checkpoint.write_bytes(whole.replace(b'"digest"', b'"xigest"'))
    with pytest.raises(WeightsError, match=r"is of an earlier version; delete it"):
        train(small("blur"), corpus, tmp_path, accelerator="cpu")
    checkpoint.write_bytes(whole[:-100] + bytes(100))
    with pytest.raises(WeightsError, match=r"checkpoint.safetensors is damaged; delete it"):
        train(small("blur"), corpus, tmp_path, accelerator="cpu")
    checkpoint.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="no readable checkpoint"):
        train(small("blur"), corpus, tmp_path, accelerator="cpu")


def test_a_refused_run_leaves_the_finished_weights_as_they_are(
    corpus: list[Path], tmp_path: Path
) -> None:
    """Its blur model, above all: a copy of another one beside them would make them useless."""
    for name in ("a", "b"):
        seed = {"seed": 1} if name == "a" else {"seed": 2}
        train(small("blur", **seed), corpus, tmp_path / name, accelerator="cpu")
    given: dict[str, Any] = {"accelerator": "cpu"}
    folder = tmp_path / "run"
    blur = tmp_path / "a" / "blur.safetensors"
    made = train(small("focusgan"), corpus, folder, blur_model=blur, **given)
    before = {path.name: path.read_bytes() for path in folder.glob("*.*s*")}
    assert "blur.safetensors" in before
    other = tmp_path / "b" / "blur.safetensors"
    with pytest.raises(WeightsError, match=r"choose another folder"):
        train(small("focusgan"), corpus, folder, blur_model=other, **given)
    (folder / "blur.safetensors").unlink()
    with pytest.raises(OptionError, match="other settings"):
        train(small("focusgan"), corpus, folder, blur_model=other, **given)
    assert not (folder / "blur.safetensors").exists()
    assert made is not None and made.read_bytes() == before[made.name]


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"crop_px": 100}, {}, "multiple of 8 px"),
        ({"network": {"width": -4}}, {}, "network.width=-4: must be at least 1"),
        ({"network": {"width": 4, "upsample": "foo"}}, {}, "'bilinear' or 'nearest'"),
        ({}, {"accelerator": "mps"}, "'auto', 'cpu' or 'cuda'"),
        ({}, {"name": "my net/1"}, "name='my net/1': the weights become files"),
        ({}, {"name": ""}, "name='': the weights become files"),
        ({"network": {"wdith": 4}}, {}, "no setting 'wdith'; did you mean 'width'"),
        ({"network": {"width": 4, "upsample": 2}}, {}, "upsample=2 must be of type str"),
        ({}, {"name": "checkpoint"}, "the run keeps its checkpoint there"),
        ({"crop_px": 32}, {}, "crop_px 32: the discriminator needs larger crops"),
        ({}, {"name": 5}, "name=5: the weights become files"),
        ({}, {"checkpoint_steps": 0}, "at least 1"),
        ({}, {"stop_after": 0}, "at least 1"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(
    changes: dict[str, object],
    arguments: dict[str, object],
    message: str,
    corpus: list[Path],
    tmp_path: Path,
) -> None:
    given = {"accelerator": "cpu", "blur_model": None, **arguments}
    with pytest.raises(OptionError, match=message):
        train(small("focusgan", **changes), corpus, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_name_is_no_recipe(corpus: list[Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"is no Recipe: give one, .*compact"):
        train("focusgan", corpus, tmp_path / "run")  # type: ignore[arg-type]


def test_a_run_that_diverges_ends(corpus: list[Path], tmp_path: Path) -> None:
    wild = small("srgan", learning_rate=1e30, clip=0.0, steps=20)
    with pytest.raises(ProcessingError, match=r"diverged at update \d+ \(loss: .*nan"):
        train(wild, corpus, tmp_path, accelerator="cpu", checkpoint_steps=1)
    assert not (tmp_path / "srgan-1.safetensors").exists()


def test_other_weights_to_start_from_are_another_run(corpus: list[Path], tmp_path: Path) -> None:
    first = train(small("srgan"), corpus, tmp_path / "first", accelerator="cpu")
    recipe = small("srgan", start=str(first), seed=1)
    given = {"accelerator": "cpu", "checkpoint_steps": 2}
    assert train(recipe, corpus, tmp_path / "run", stop_after=2, **given) is None
    other = train(small("srgan", seed=5), corpus, tmp_path / "other", accelerator="cpu")
    assert first and other
    for suffix in (".safetensors", ".json"):
        first.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes())
    with pytest.raises(OptionError, match="start_sha256"):
        train(recipe, corpus, tmp_path / "run", accelerator="cpu")


def test_moments_of_a_checkpoint_lie_where_the_weights_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen without a GPU: "meta" is another device that weights can be moved to."""
    from lightning_fabric.accelerators import CPUAccelerator
    from lightning_fabric.strategies import SingleDeviceStrategy

    learner = _learner(small("blur"), None, None)
    model, optimiser = learner.modules["model"], learner.optimisers["model"]
    model(torch.zeros(1, 3, 64, 64)).sum().backward()
    optimiser.step()  # as a checkpoint's: read before the fabric moves anything
    optimiser.zero_grad()
    average = WeightAverage(model, 0.9, 1.0, trained=False)
    job = trainer._Run(learner, average, None, tmp_path, 1, None, "{}")
    fabric = trainer._fabric(learner.recipe, 1, "cpu")
    fabric.launch()
    monkeypatch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
    monkeypatch.setattr(SingleDeviceStrategy, "root_device", torch.device("meta"))
    torch.__future__.set_swap_module_params_on_conversion(True)  # as to a GPU: the same objects
    try:
        trainer._set_up(fabric, job)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    (weight, *_), moments = model.parameters(), optimiser.state_dict()["state"][0]
    where = {key: value.device.type for key, value in moments.items()}
    assert weight.device.type == "meta"
    assert where == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
