"""An OME-Zarr being written: begun, continued or refused; complete only when its last region is.

Until it is finished the root group carries no ``ome`` metadata, so no reader of OME-Zarr can take
it for a whole image, and ``slidefusion.complete`` is false.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Self

import numpy as np

from slidefusion.errors import OutputError, ProcessingError, SlidefusionError
from slidefusion.omezarr.access import writing
from slidefusion.omezarr.journal import JOURNAL_NAME, Journal
from slidefusion.omezarr.lock import Lock
from slidefusion.omezarr.members import fault_of, made_group
from slidefusion.omezarr.metadata import multiscales
from slidefusion.omezarr.overlap import refuse_overlap
from slidefusion.omezarr.place import State, delete_store, forget_metadata, state_of
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.record import RECORD_KEY
from slidefusion.omezarr.rendering import with_windows, without_windows
from slidefusion.omezarr.shards import clear_scratch
from slidefusion.omezarr.store import check_name, create_group, location, open_group
from slidefusion.omezarr.version import NGFF_VERSION

__all__ = ["ImageSpec", "Output", "stored_region_px"]

_LOG = logging.getLogger("slidefusion")


@dataclass(frozen=True)
class ImageSpec:
    """One image of an output: its arrays and what its group says of it."""

    name: str
    """Path of the image group in the store; ``""`` is the root, ``"labels/depth"`` a label."""
    layout: PyramidLayout
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    z_start_um: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)
    """(y, x) place of the first pixel, as in `multiscales`."""
    blocks: Mapping[str, Any] = field(default_factory=dict)
    """Further NGFF blocks: ``omero``, ``image-label``."""
    rgb: bool = False
    """Whether the channels are red, green and blue of one colour picture."""

    @property
    def arrays(self) -> list[str]:
        """Paths of its arrays in the store, level 0 first."""
        return [f"{self.name}/{level}".lstrip("/") for level in range(self.layout.levels)]

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
                origin=self.origin,
                name=title,
                method=self.layout.method,
            ),
            **self.blocks,
        }

    def with_windows(self, where: str) -> ImageSpec:
        """The image with windows for channels that have none, by what is written at ``where``."""
        block = self.blocks.get("omero")
        if block is None or not without_windows(block):
            return self
        shown = with_windows(block, self.layout.overview(where, self.name), rgb=self.rgb)
        return replace(self, blocks={**self.blocks, "omero": shown})


def stored_region_px(out: str | os.PathLike[str]) -> int | None:
    """The region side of the slide at ``out``, finished or not, or None if there is none.

    Raises
    ------
    OutputError
        When a file is there, or the place or what lies there does not answer.
    """
    side = state_of(location(out))[1].get("region_px")
    return side if isinstance(side, int) else None


class Output:
    """The store at ``out`` with its images, the journal of its regions, and the right to write it.

    A context manager: leaving it gives up the right, finished or not.

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
        Paths and URLs that are read, so that no output can overwrite its input.
    overwrite
        Delete what is there first, if it is a Zarr store.
    again
        Accept an output that is complete already, if it was made with the same settings
        (``attributes["fingerprint"]``); ``was_complete`` then says so, and ``reopen`` takes it up.

    Raises
    ------
    OutputError
        When something else is there, another run is writing it, the run there had other settings,
        or ``out`` lies above or inside an input.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        images: Iterable[ImageSpec],
        *,
        settings: dict[str, Any],
        attributes: dict[str, Any],
        count: int,
        inputs: Iterable[str | os.PathLike[str]] = (),
        overwrite: bool = False,
        again: bool = False,
    ) -> None:
        self.where = location(out)
        check_name(self.where)
        self.images = tuple(images)
        self.attributes = attributes
        self.settings = settings
        self.was_complete = False
        self._again = again
        self._lock: Lock | None = None
        self._writing = self._has_upper = False
        refuse_overlap(self.where, inputs)
        self._check_state(overwrite)  # a place that is not ours gets no lock, either
        self._lock = Lock(self.where)
        try:
            self._begin(count, overwrite)
            self._writing = not self.was_complete
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Note what is finished and give up the right to write; may be called twice."""
        if self._lock is None:
            return
        if self._writing:
            self._writing = False
            try:
                self._lock.check()
                self.journal.flush()
            except SlidefusionError as error:  # on a full disk, say: less is noted than was done
                _LOG.warning("%s", error)
        self._lock.release()

    def check(self) -> None:
        """Make sure that nobody else took the output over.

        Raises
        ------
        OutputError
            When another run did.
        """
        assert self._lock is not None
        self._lock.check()

    def _begin(self, count: int, overwrite: bool) -> None:
        state = self._check_state(overwrite)
        if state == "complete":
            self.was_complete = True
            self.journal = Journal(self.where, self.settings, np.ones(count, bool))
            return
        if state == "deleted":
            delete_store(self.where)
        if state != "unfinished":
            # The progress of a store that is gone says nothing of the one that is made now.
            Journal.forget(self.where)
            create_group(self.where, self._root_attributes(complete=False))
        clear_scratch(self.where)
        self.journal = Journal.open(self.where, self.settings, count)
        self._make_arrays()

    def _make_arrays(self) -> None:
        root = open_group(self.where, "r+")
        for image in self.images:
            with writing(f"the groups of {self.where}"):
                group = made_group(root, image.name)
            image.layout.create(group, self.where)

    def _root_attributes(self, *, complete: bool) -> dict[str, Any]:
        # What it holds is said here as well, so that an image that is lost as a whole is missed.
        arrays = [array for image in self.images for array in image.arrays]
        return {RECORD_KEY: {**self.attributes, "arrays": arrays, "complete": complete}}

    def _check_state(self, overwrite: bool) -> State:
        """What is at the place; refuses what is not ours to write."""
        state, mine = state_of(self.where)
        if overwrite and state in ("zarr", "unfinished", "complete"):
            return "deleted"
        if state == "complete":
            if self._again and mine.get("fingerprint") == self.attributes.get("fingerprint"):
                return "complete"
            self._tidy()
            what = "is already complete"
            if self._again:
                what += ", and was made with other settings"
        elif state == "other":
            was = " (any more: a run of slidefusion has written there)"
            raise OutputError(
                f"the output {self.where} exists and is no Zarr store"
                f"{was if Journal.exists(self.where) else ''}, so it is never replaced; choose "
                "another output, or delete it yourself"
            )
        elif state == "zarr":
            what = "exists and is not empty"
        else:
            return state
        raise OutputError(
            f"the output {self.where} {what}; choose another output, delete it, or pass "
            "overwrite=True (--overwrite)"
        )

    def _tidy(self) -> None:
        """Remove what a run leaves that was killed between its last write and its end."""
        if Journal.exists(self.where):
            lock = self._lock or Lock(self.where)
            try:
                self._forget_journal()
            finally:
                lock.release()

    def _forget_journal(self) -> None:
        """Of a complete output, which is so with or without it."""
        try:
            Journal.forget(self.where)
        except ProcessingError as error:  # nothing may be deleted there, say
            _LOG.warning(
                "%s is complete, but its %s cannot be deleted: %s",
                self.where, JOURNAL_NAME, error.__cause__ or error,
            )  # fmt: skip

    def restore_arrays(self) -> bool:
        """Make arrays anew that a complete output lacks, or whose metadata is damaged: empty, and
        the output incomplete.

        Says whether there were any.

        Raises
        ------
        ProcessingError
            When the store refuses.
        """
        root = open_group(self.where)
        arrays = [PurePosixPath(array) for image in self.images for array in image.arrays]
        names = {str(p) for array in arrays for p in (array, *array.parents)} - {"."}
        faults = {name: fault_of(root, name, self.where) for name in names}
        if not any(faults.values()):
            return False
        self.reopen()
        for name in (name for name, fault in faults.items() if fault):
            forget_metadata(self.where, name)
        self._make_arrays()
        return True

    def reopen(self) -> None:
        """Take a complete output up again: it is incomplete until ``finish``."""
        self.journal.flush()
        root = open_group(self.where, "r+")
        with writing(f"the metadata of {self.where}"):
            root.attrs.put(self._root_attributes(complete=False))
        self.was_complete, self._writing = False, True

    def write_upper(self) -> None:
        """Make the levels that no single region determines; ``finish`` does it if nobody did.

        Raises
        ------
        ProcessingError
            When the store refuses.
        """
        for image in self.images:
            image.layout.write_upper(self.where, image.name)
        self._has_upper = True

    def finish(self) -> None:
        """Make the upper levels, write the metadata, and with the root's say that it is complete.

        Raises
        ------
        ProcessingError
            When the store refuses; the output then stays incomplete.
        OutputError
            When another run took the output over.
        """
        self.check()
        self.journal.flush()
        if not self._has_upper:
            self.write_upper()
        images = [image.with_windows(self.where) for image in self.images]
        title = self.where.rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")
        root = open_group(self.where, "r+")
        labels = [i.name.partition("/")[2] for i in self.images if i.name.startswith("labels/")]
        with writing(f"the metadata of {self.where}"):
            for image in images[1:]:  # below the root's
                group = made_group(root, image.name)
                group.attrs["ome"] = image.ome(image.name.rpartition("/")[2])
            if labels:
                group = made_group(root, "labels")
                group.attrs["ome"] = {"version": NGFF_VERSION, "labels": labels}
            clear_scratch(self.where)
            # The last write, and a single one: from here on the image is whole.
            root.attrs.put({"ome": images[0].ome(title), **self._root_attributes(complete=True)})
        self._writing = False
        self._forget_journal()
        self.close()
