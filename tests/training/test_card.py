"""The card of weights: which commit made them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slidefusion.training import card


def test_the_commit_is_that_of_the_package_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of another project, in which the environment lies."""

    def git(*command: str) -> str:
        given = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *command]
        return subprocess.run(
            given, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    file = tmp_path / "site-packages" / "card.py"
    file.parent.mkdir()
    file.touch()
    monkeypatch.setattr(card, "__file__", str(file))
    assert card._commit() is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another project")
    assert card._commit() is None
    git("add", ".")
    assert card._commit() == git("rev-parse", "HEAD")
