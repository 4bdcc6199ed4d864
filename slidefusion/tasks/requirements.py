"""What a process needs so that its part of an image equals everybody else's."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slidefusion.files import ZARR_NAMES

__all__ = ["BYTES_DEPEND_ON", "Requirement"]

BYTES_DEPEND_ON = ("slidefusion", "zarr", "zarrs", "numba", "numcodecs")
"""Distributions whose versions decide about the bytes of every output."""


@dataclass(frozen=True)
class Requirement:
    """Versions and files that this process has, which every worker must have too.

    >>> Requirement.here(["slidefusion"], []).problems()
    []
    """

    python: str
    """Major and minor version."""
    distributions: tuple[tuple[str, str], ...]
    """Name and version of each."""
    files: tuple[tuple[str, str], ...] = ()
    """Local paths that are read, and a stamp of what is there."""

    @classmethod
    def here(cls, distributions: Iterable[str], files: Iterable[str | Path]) -> Requirement:
        """What this process has of these; names that are no distributions are left out."""
        versions = {name: _version(name) for name in distributions}
        return cls(
            _python(),
            tuple((name, found) for name, found in versions.items() if found is not None),
            tuple((str(path), _stamp(Path(path))) for path in files),
        )

    def problems(self) -> list[str]:
        """What this process lacks, each as the end of a sentence that begins with its name."""
        found = []
        if _python() != self.python:
            found.append(f"runs Python {_python()}, and this process {self.python}")
        for name, wanted in self.distributions:
            own = _version(name)
            if own is None:
                found.append(f"lacks {name} (here {wanted})")
            elif own != wanted:
                found.append(f"has {name} {own}, and this process {wanted}")
        return found

    def missing_files(self) -> list[str]:
        """Like :meth:`problems`, of the files."""
        found = []
        for path, stamp in self.files:
            own = _stamp(Path(path))
            if own != stamp:
                found.append(
                    f"cannot see {path}" if own == _ABSENT else f"sees something else at {path}"
                )
        return found


_ABSENT = "absent"


def _python() -> str:
    return "{}.{}".format(*sys.version_info)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stamp(path: Path) -> str:
    """Tells whether two machines see the same thing at a path, without reading much."""
    try:
        if path.is_dir():
            for name in ZARR_NAMES:
                if (path / name).is_file():
                    return hashlib.sha256((path / name).read_bytes()).hexdigest()[:16]
            return "folder"
        return f"{path.stat().st_size} bytes"
    except OSError:
        return _ABSENT
