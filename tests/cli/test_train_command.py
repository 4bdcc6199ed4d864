"""``slidefusion train``: from nothing to a file of weights that a fuser takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import slidefusion as sf
from slidefusion import weights
from slidefusion.training.corpus import write_corpus

from .conftest import Runner

SMALL = ("-O", "steps=3", "-O", "batch=1", "-O", "crop_px=64", "-O", "network.width=4")


def test_train_from_nothing_and_fuse(cli: Runner, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 2, side_px=96, planes=3)
    blur, run = tmp_path / "blur", tmp_path / "run"
    cpu = ("--accelerator", "cpu", "--no-progress")
    ended = cli("train", "blur", *corpus, "--out", blur, *SMALL, *cpu)
    assert ended.code == 0 and "blur.safetensors: weights" in ended.out
    ended = cli(
        *("train", "focusgan", *corpus, "--planes", 3, "--out", run, *SMALL, *cpu),
        *("--blur-model", blur / "blur.safetensors"),
    )
    assert ended.code == 0, ended.err
    made = run / "focusgan-3.safetensors"
    card = weights.load(str(made)).card
    assert card.planes == 3 and str(card.facts["command"]).startswith("slidefusion")
    shutil.rmtree(blur)  # a copy of it lies beside the weights
    fused = sf.fuse(corpus[0], "focusgan", weights=str(made), tile=64, overlap=16)
    assert np.asarray(fused).shape == (3, 96, 96)


def test_what_cannot_be_trained(cli: Runner, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert "choose one of focusgan" in cli("train", "cyclegan", "x.zarr", *out).error
    assert "nothing to train on" in cli("train", "blur", *out).error
    assert "x.zarr" in cli("train", "blur", "x.zarr", *out).error
    assert "did you mean 'steps'" in cli("train", "blur", "x.zarr", *out, "-O", "step=3").error
    assert "--devices" in cli("train", "blur", "x.zarr", *out, "--devices", "two").error
    for wrong, says in (
        (
            ("--blur-model", "nowhere/blur.safetensors"),
            "nowhere/blur.safetensors: there is",
        ),
        (("-O", "start=nowhere"), "nowhere"),
        (("--accelerator", "tpu"), "accelerator 'tpu'"),
    ):  # before phantoms are made
        assert says in cli("train", "focusgan", "--phantoms", 400, *out, *wrong).error
    assert not (tmp_path / "run").exists()


def test_the_discriminator_joins_for_the_last_updates_of_however_many_steps(
    cli: Runner, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", 1, side_px=96, planes=3)
    for given, joined in (((), 7), (("-O", "warm_up=9"), 9)):
        out = tmp_path / f"run{joined}"
        ended = cli(
            *("train", "srgan", *corpus, "--out", out, "-O", "steps=10", *given),
            *("-O", "crop_px=64", "-O", "batch=1", "-O", "network.width=4"),
            *("--accelerator", "cpu", "--no-progress"),
        )
        assert ended.code == 0, ended.err
        assert (
            weights.load(str(out / "srgan-1.safetensors")).card.facts["recipe"]["warm_up"] == joined
        )
