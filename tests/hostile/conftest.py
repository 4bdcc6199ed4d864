"""One warden a test process, and a folder a case with something outside of the input."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import seeds
from .broken_stores import break_store, copy_store
from .broken_tiffs import write_broken
from .warden import DOORS

GROWTH_BYTES = 2**30
"""Resident memory that a small input may need, through all doors: far more than it does."""


class Warden:
    """Gives inputs to the child process that opens them, and judges what happened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seeds = folder / "seeds"
        self._seeds.mkdir()
        seeds.make_stores(self._seeds)
        seeds.make_tiffs(self._seeds)
        self._numbers = itertools.count()
        home = folder / "home"
        home.mkdir()
        environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.hostile.warden"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        self._process.communicate()

    def store(self, seed: str, changes: list[Any]) -> list[str]:
        """What is wrong with how the package takes a broken store: nothing, one hopes."""

        def make(folder: Path) -> None:
            break_store(copy_store(self._seeds / seed, folder / "in.zarr"), changes)

        return self.judge(make)

    def tiff(self, seed: str, changes: list[Any]) -> list[str]:
        """What is wrong with how the package takes a broken TIFF file."""
        suffix = {"svs": ".svs", "ndpi": ".ndpi"}.get(seed, ".tif")

        def make(folder: Path) -> None:
            write_broken(self._seeds / seed, folder / f"in{suffix}", changes)

        return self.judge(make)

    def judge(self, make: Callable[[Path], None]) -> list[str]:
        """What is wrong with how the package takes what ``make`` puts into a folder as ``in``."""
        answer, wrong = self.answers(make)
        if "died" in answer:
            return [f"no answer: {answer['died']}"]
        for door, how in answer["doors"].items():
            if how["answer"] == "wrong":
                wrong.append(f"{door}: {how['text']}")
        if answer["grown_bytes"] > GROWTH_BYTES:
            wrong.append(f"{answer['grown_bytes'] / 2**20:.0f} MiB more memory")
        return wrong

    def answers(self, make: Callable[[Path], None]) -> tuple[dict[str, Any], list[str]]:
        """What each door answered, and what was written where nothing may be."""
        around = self._folder / f"case{next(self._numbers)}"
        folder = around / "given"
        folder.mkdir(parents=True)
        seeds.make_secret(folder)
        make(folder)
        before = _all_below(around) | _all_below(self._folder / "home")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "died" in answer or list(answer["doors"]) == list(DOORS)
        after = _all_below(around) | _all_below(self._folder / "home")
        own = (str(folder / "out"), str(folder / "stderr.txt"))
        changed = {
            path
            for path in before.keys() | after.keys()
            if before.get(path) != after.get(path) and not path.startswith(own)
        }
        shutil.rmtree(around)
        return answer, [f"outside of the output: {sorted(changed)}"] if changed else []


def _all_below(folder: Path) -> dict[str, str]:
    """Every file, link and folder with a digest of what it holds."""
    found = {}
    for path in folder.rglob("*"):
        text = str(path)
        if path.is_symlink():
            found[text] = f"to {path.readlink()}"
        elif path.is_file():
            found[text] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[text] = "folder"
    return found


@pytest.fixture(scope="session")
def warden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    warden = Warden(tmp_path_factory.mktemp("hostile"))
    yield warden
    warden.close()
