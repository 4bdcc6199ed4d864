"""An OME-Zarr being written: begun, continued or refused; complete only when its last region is.

Until it is finished the root group carries no ``ome`` metadata, so no reader of OME-Zarr can take
it for a whole image, and ``slidefusion.complete`` is false.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slidefusion.errors import OutputError
from slidefusion.omezarr.journal import Journal
from slidefusion.omezarr.metadata import NGFF_VERSION, multiscales
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.store import create_group, is_url, location, open_group, writing

__all__ = ["ImageSpec", "Output", "interrupted_settings"]


@dataclass(frozen=True)
class ImageSpec:
    """One image of an output: its arrays and what its group says of it."""

    name: str
    """Path of the image group in the store; ``""`` is the root, ``"labels/depth"`` a label."""
    layout: PyramidLayout
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    z_start_um: float = 0.0
    blocks: Mapping[str, Any] = field(default_factory=dict)
    """Further NGFF blocks: ``omero``, ``image-label``."""

    def ome(self, title: str) -> dict[str, Any]:
        """The ``ome`` attribute of the group."""
        return {
            "version": NGFF_VERSION,
            "multiscales": multiscales(
                self.layout.axes,
                self.layout.levels,
                pixel_size_um=self.pixel_size_um,
                z_step_um=self.z_step_um,
                z_start_um=self.z_start_um,
                name=title,
            ),
            **self.blocks,
        }


def interrupted_settings(out: str | Path) -> dict[str, Any] | None:
    """The settings of the run that was interrupted at ``out``, or None if there is none."""
    return Journal.stored_settings(location(out))


class Output:
    """The store at ``out`` with its images and the journal of its regions.

    Parameters
    ----------
    out
        Path or URL.
    images
        What it will hold; the root image first.
    settings
        All that its bytes depend on, JSON-able: an interrupted run continues only with the same.
    attributes
        What the root group says under ``slidefusion``.
    count
        Number of regions.
    inputs
        Local paths that are read, so that no output can overwrite its input.
    overwrite
        Delete what is there first, if it is a Zarr store.

    Raises
    ------
    OutputError
        When something else is there, the run there had other settings, or ``out`` lies above or
        inside an input.
    """

    def __init__(
        self,
        out: str | Path,
        images: Iterable[ImageSpec],
        *,
        settings: dict[str, Any],
        attributes: dict[str, Any],
        count: int,
        inputs: Iterable[str | Path] = (),
        overwrite: bool = False,
    ) -> None:
        self.where = location(out)
        self.images = tuple(images)
        self.attributes = attributes
        _refuse_overlap(self.where, inputs)
        if overwrite:
            _delete_store(self.where)
        if not self._continues():
            create_group(self.where, {"slidefusion": {**attributes, "complete": False}})
        self.journal = Journal(self.where, settings, count)
        root = open_group(self.where, "r+")
        for image in self.images:
            group = root
            with writing(f"the groups of {self.where}"):
                for part in filter(None, image.name.split("/")):
                    group = group.require_group(part)
            image.layout.create(group, self.where)

    def _continues(self) -> bool:
        """Whether an unfinished output of ours is there; refuses anything else that is."""
        if is_url(self.where):
            import fsspec

            filesystem, root = fsspec.core.url_to_fs(self.where)
            occupied = bool(filesystem.exists(root) and filesystem.ls(root))
        else:
            path = Path(self.where)
            if path.exists() and not path.is_dir():
                raise OutputError(f"{self.where} is a file; choose another output")
            occupied = path.is_dir() and any(path.iterdir())
        if not occupied:
            return False
        try:
            mine = dict(open_group(self.where).attrs).get("slidefusion")
        except Exception:
            mine = None
        if isinstance(mine, dict) and mine.get("complete") is False:
            return True
        state = "is already complete" if isinstance(mine, dict) else "exists and is not empty"
        raise OutputError(
            f"the output {self.where} {state}; choose another output, delete it, or pass "
            "overwrite=True (--overwrite)"
        )

    def finish(self) -> None:
        """Make the upper levels, write the metadata, and with the root's say that it is complete.

        Raises
        ------
        ProcessingError
            When the store refuses; the output then stays incomplete.
        """
        self.journal.flush()
        for image in self.images:
            image.layout.write_upper(self.where, image.name)
        title = self.where.rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")
        root = open_group(self.where, "r+")
        labels = [i.name.partition("/")[2] for i in self.images if i.name.startswith("labels/")]
        with writing(f"the metadata of {self.where}"):
            for image in self.images:
                if image.name:
                    root[image.name].attrs["ome"] = image.ome(image.name.rpartition("/")[2])
            if labels:
                root["labels"].attrs["ome"] = {"version": NGFF_VERSION, "labels": labels}
            # The last write, and a single one: from here on the image is whole.
            root.attrs.put(
                {
                    "ome": self.images[0].ome(title),
                    "slidefusion": {**self.attributes, "complete": True},
                }
            )
        self.journal.remove()


def _refuse_overlap(where: str, inputs: Iterable[str | Path]) -> None:
    for given in inputs:
        source = location(given)
        if is_url(source) != is_url(where):
            continue
        if is_url(where):
            same = f"{source}/" == f"{where}/"
            above = f"{source}/".startswith(f"{where}/")
            inside = f"{where}/".startswith(f"{source}/")
        else:
            ours, theirs = Path(where).resolve(), Path(source).resolve()
            same, above = ours == theirs, ours in theirs.parents
            # A folder of images may hold its own result; a Zarr store must stay as it is.
            inside = theirs in ours.parents and (
                (theirs / "zarr.json").exists() or (theirs / ".zgroup").exists()
            )
        if same or above or inside:
            relation = "is" if same else "contains" if above else "lies inside"
            raise OutputError(
                f"the output {where} {relation} the input {source}; writing there would damage "
                "it: choose an output elsewhere"
            )


def _delete_store(where: str) -> None:
    """Delete a Zarr store; anything else that is there is left, and refused later."""
    if is_url(where):
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(where)
        if filesystem.exists(f"{root}/zarr.json") or filesystem.exists(f"{root}/.zgroup"):
            filesystem.rm(root, recursive=True)
        return
    path = Path(where)
    if (path / "zarr.json").is_file() or (path / ".zgroup").is_file():
        shutil.rmtree(path)
