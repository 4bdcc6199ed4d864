"""``slidefusion plan``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import slidefusion as sf

from .conftest import Runner


def test_plan(cli: Runner, kept_stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    args = ("lpp", "-O", "levels=2", "--chunks", 64, "--out", out, "--workers", 3)
    ended = cli("plan", kept_stack, *args)
    assert (ended.code, ended.err) == (0, "")
    for part in (
        "6 of 64 px",
        "5: 0 megapixel-planes",
        "3 workers of 1",
        "free",
        "memory a worker",
    ):
        assert part in ended.out
    shown = json.loads(cli("plan", kept_stack, *args, "--planes=-1,0,1", "--json").out)
    found = sf.plan_fuse(kept_stack, "lpp", planes=[-1, 0, 1], chunks=64, levels=2, workers=3)
    for name in ("regions", "read_bytes", "write_bytes", "memory_needed_bytes", "workers"):
        assert shown[name] == getattr(found, name)
    assert shown["wall_seconds"] > 0
    assert not out.exists()


def test_brackets_in_a_path_are_shown(
    cli: Runner, kept_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "[bold]s").symlink_to(kept_stack)
    monkeypatch.chdir(tmp_path)
    assert cli("plan", "[bold]s", "--sample", 1).out.startswith("lpp of [bold]s\n")


def test_what_does_not_fit(cli: Runner, kept_stack: Path) -> None:
    ended = cli("plan", kept_stack, "--memory-limit", "300MB")
    assert ended.code == 2
    assert "a process needs" in ended.error and "0.24 GB may be used" in ended.error
    assert "did you mean 'lpp'" in cli("plan", kept_stack, "lp").error
    assert "region" in cli("plan", kept_stack, "--chunks", "big").error
    assert "memory_limit" in cli("plan", kept_stack, "--memory-limit", "big").error
