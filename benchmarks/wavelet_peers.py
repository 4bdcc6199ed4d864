"""The peers of the wavelet fusers for `kernels.py`: PyWavelets and the `dtcwt` package."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pywt

Array = npt.NDArray[np.generic]

LEVELS = 4
WAVELET = "db2"


def pywavelets_max(stack: Array) -> Array:
    """The usual loop over (Z, C, Y, X): the coefficient of largest magnitude, the mean low pass."""
    best: list[list[Array]] = []
    strength: list[list[Array]] = []
    low = None
    for plane in stack:
        coarsest, *levels = pywt.wavedec2(plane.astype(np.float32), WAVELET, level=LEVELS)
        for j, bands in enumerate(levels):
            magnitudes = [np.abs(band).sum(0) for band in bands]
            if low is None:
                best.append(list(bands))
                strength.append(magnitudes)
                continue
            for b, band in enumerate(bands):
                wins = magnitudes[b] > strength[j][b]
                np.copyto(best[j][b], band, where=wins)
                np.copyto(strength[j][b], magnitudes[b], where=wins)
        low = coarsest if low is None else low + coarsest
    assert low is not None
    image = pywt.waverec2([low / np.float32(len(stack)), *map(tuple, best)], WAVELET)
    return image[:, : stack.shape[2], : stack.shape[3]].clip(0, 255).astype(np.uint8)


class DtcwtPackage:
    """The `dtcwt` package in its own interpreters, one a stack; see `dtcwt_peer.py`.

    Separate processes do it no wrong: threads of one would wait for each other's interpreter lock.
    """

    def __init__(self, python: str, stacks: list[Array]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        script = Path(__file__).with_name("dtcwt_peer.py")
        self.paths, self.peers = [], []
        for i, stack in enumerate(stacks):
            self.paths.append(Path(self.folder.name) / f"{i}.npy")
            np.save(self.paths[-1], stack)
            self.peers.append(
                subprocess.Popen(
                    [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )

    def seconds(self) -> float:
        """Fuse all stacks at once; the time in seconds that the slowest took."""
        for path, peer in zip(self.paths, self.peers, strict=True):
            assert peer.stdin is not None
            peer.stdin.write(f"{path}\n")
            peer.stdin.flush()
        return max(float(peer.stdout.readline()) for peer in self.peers if peer.stdout)

    def close(self) -> None:
        """End the interpreters and remove the files."""
        for peer in self.peers:
            peer.communicate()
        self.folder.cleanup()
