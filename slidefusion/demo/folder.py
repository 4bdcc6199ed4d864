"""The demo's folder: what is where, and when it may be written."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from slidefusion.errors import OutputError

__all__ = ["DemoFolder"]

_MARKER = ".slidefusion-demo"


@dataclass(frozen=True)
class DemoFolder:
    """Paths of everything in the folder at ``path``."""

    path: Path

    @property
    def slide(self) -> Path:
        """The slide file, OME-TIFF with all planes."""
        return self.path / "slide.ome.tif"

    @property
    def stack(self) -> Path:
        """The slide file converted: OME-Zarr focus stack."""
        return self.path / "stack.zarr"

    @property
    def fused(self) -> Path:
        """The all-in-focus OME-Zarr slide."""
        return self.path / "fused.zarr"

    @property
    def truth(self) -> Path:
        """OME-Zarr image of the slide in focus everywhere."""
        return self.path / "truth.zarr"

    @property
    def depth(self) -> Path:
        """OME-Zarr image of the true depth in µm."""
        return self.path / "depth.zarr"

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / "report.html"

    @property
    def figure(self) -> Path:
        """Crops side by side, JPEG; the picture in the README is one."""
        return self.path / "crops.jpg"

    @property
    def scores(self) -> Path:
        """Metrics and timings, JSON."""
        return self.path / "scores.json"

    @classmethod
    def begin(cls, path: Path, *, overwrite: bool) -> DemoFolder:
        """Make the folder, and clear what an earlier demo left there.

        Only files that bear the demo's names are deleted, and in a folder that the demo did not
        make only with ``overwrite``.

        Raises :class:`OutputError` when ``path`` is a file, holds something else, or cannot be
        written.
        """
        folder = cls(path.expanduser())
        if folder.path.exists() and not folder.path.is_dir():
            raise OutputError(f"{path} is a file; choose another folder for the demo")
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            marker = folder.path / _MARKER
            if any(folder.path.iterdir()) and not marker.exists() and not overwrite:
                raise OutputError(
                    f"the folder {path} exists and was not made by the demo; choose another, or "
                    "pass overwrite=True (--overwrite) to add the demo's files to it"
                )
            marker.write_text("made by slidefusion demo, which may replace its own files here\n")
            folder._clear()
        except OSError as error:
            raise OutputError(
                f"cannot write into {path}: {error}; choose a place that can be written to"
            ) from error
        return folder

    def _clear(self) -> None:
        for store in (self.stack, self.fused, self.truth, self.depth):
            if store.is_dir() and (store / "zarr.json").is_file():
                shutil.rmtree(store)
        for file in (self.slide, self.report, self.figure, self.scores):
            file.unlink(missing_ok=True)
