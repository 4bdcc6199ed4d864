"""Enfuse as a peer for `kernels.py`: the program, from TIFF files to a TIFF file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

Array = npt.NDArray[np.generic]

OPTIONS = ("--contrast-weight=1", "--exposure-weight=0", "--saturation-weight=0", "--hard-mask")


class Enfuse:
    """One process a stack, each with one thread, as the fusers have.

    Its time contains starting, reading and writing files, all in the page cache: enfuse has no
    other way to be used.
    """

    def __init__(self, stacks: list[Array]) -> None:
        """``stacks`` of (Z, Y, X, C) are written as uncompressed files."""
        self._folder = tempfile.TemporaryDirectory()
        self._commands = []
        for i, stack in enumerate(stacks):
            paths = [Path(self._folder.name) / f"{i}-{z:02d}.tif" for z in range(len(stack))]
            for path, plane in zip(paths, stack, strict=True):
                tifffile.imwrite(path, plane, photometric="rgb")
            out = Path(self._folder.name) / f"{i}.tif"
            self._commands.append(["enfuse", *OPTIONS, "-o", str(out), *map(str, paths)])

    @staticmethod
    def installed() -> bool:
        """Whether there is such a program."""
        return shutil.which("enfuse") is not None

    def seconds(self) -> float:
        """Fuse all stacks at once; wall time in seconds."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}

        def run(command: list[str]) -> None:
            subprocess.run(command, env=environment, check=True, capture_output=True)

        threads = [threading.Thread(target=run, args=(command,)) for command in self._commands]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()
