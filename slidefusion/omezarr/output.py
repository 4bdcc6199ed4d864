"""An OME-Zarr being written: begun, continued or refused; complete only when its last region is.

Until it is finished the root group carries no ``ome`` metadata, so no reader of OME-Zarr can take
it for a whole image, and ``slidefusion.complete`` is false.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np

from slidefusion.errors import OutputError, ProcessingError, SlidefusionError
from slidefusion.omezarr.access import writing
from slidefusion.omezarr.images import ImageSpec, digests_of, labels_in, metadata_below, same_pixels
from slidefusion.omezarr.journal import JOURNAL_NAME, Journal
from slidefusion.omezarr.lock import Lock
from slidefusion.omezarr.members import MISSING, label_names, member, metadata_fault, store_metadata
from slidefusion.omezarr.overlap import refuse_overlap
from slidefusion.omezarr.place import State, delete_store, state_of
from slidefusion.omezarr.record import DIGESTS_KEY, RECORD_KEY, digest_of_root
from slidefusion.omezarr.shards import clear_scratch
from slidefusion.omezarr.store import check_name, create_group, location, open_group

__all__ = ["Output", "stored_region_px"]

_LOG = logging.getLogger("slidefusion")


def stored_region_px(out: str | os.PathLike[str]) -> int | None:
    """The region side of the slide at ``out``, finished or not, or None if there is none.

    Raises
    ------
    OutputError
        When a file is there, or the place or what lies there does not answer.
    """
    side = state_of(location(out))[1].get("region_px")
    return side if type(side) is int and 0 < side <= 2**20 else None


class Output:
    """The store at ``out`` with its images, the journal of its regions, and the right to write it.

    A context manager: leaving it gives up the right, finished or not.

    Parameters
    ----------
    out
        Path or URL.
    images
        What it will hold; the root image first. Written are those of the attribute ``images``.
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
        self.images = tuple(image.of_output(uuid.uuid4().hex) for image in images)
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
        faults, unlike = self._faults()
        by_regions = {
            a for image in self.images for a in image.arrays[: image.layout.region_levels]
        }
        other = sorted(name for name in by_regions & faults.keys() if faults[name] != MISSING)
        if self.journal.done.any() and other:
            # What was written into such an array was perhaps made for another.
            _LOG.warning(
                "%s: all regions are made again, since the metadata of %s were changed",
                self.where, ", ".join(other),
            )  # fmt: skip
            self.journal.done[:] = False
            self.journal.flush()
        self._write_metadata(unlike)

    def _faults(self) -> tuple[dict[str, str], dict[str, bytes]]:
        """What is wrong with metadata below the root, and what they must be, by their path.

        Arrays are looked at for what their pixels depend on. What groups say of their images is
        said, and looked at, when all else is right.
        """
        root, texts = open_group(self.where), metadata_below(self.images, finished=False)
        faults = {}
        for name, text in texts.items():
            fault = metadata_fault(root, name, self.where, partial(same_pixels, json.loads(text)))
            if fault is not None:
                faults[name] = fault
        return faults, {name: texts[name] for name in faults}

    def _write_metadata(self, texts: Mapping[str, bytes]) -> None:
        root = open_group(self.where, "r+")
        for name, text in texts.items():
            with writing(f"the metadata of {self.where}/{name}"):
                store_metadata(root, name, text)

    def _finished(self) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The metadata below the root, and the root's attributes, of the finished output."""
        images = [image.with_windows(self.where) for image in self.images]
        title = self.where.rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")
        group = open_group(self.where)
        others = [
            name for name in label_names(group) if member(group, f"labels/{name}") is not None
        ]
        below = metadata_below(images, finished=True, others=others)
        root = {"ome": images[0].ome(title), **self._root_attributes(complete=True)}
        return below, {**root, DIGESTS_KEY: digests_of(below, root)}

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

    def restore_metadata(self) -> bool:
        """Write anew what a complete output lacks of the metadata below its root, or what is other
        than it must be; the output is incomplete then.

        Says whether there was any.

        Raises
        ------
        ProcessingError
            When the store refuses.
        """
        faults, unlike = self._faults()
        if not faults:
            return False
        self.reopen()
        self._write_metadata(unlike)
        return True

    def is_described(self) -> bool:
        """Whether all metadata of a complete output, whose pixels are right, are as `finish` makes
        them.

        Raises
        ------
        ProcessingError
            When the store refuses.
        """
        below, attributes = self._finished()
        root = open_group(self.where)
        stored = dict(root.attrs)
        if digest_of_root(stored) != digest_of_root({**stored, "ome": attributes["ome"]}):
            return False
        # Those that were written by earlier versions have no digests.
        if stored.get(DIGESTS_KEY, {}) not in ({}, digests_of(below, stored)):
            return False
        return not any(
            metadata_fault(root, name, self.where, json.loads(text).__eq__)
            for name, text in below.items()
            if name != "labels" or not set(labels_in(text)) <= set(label_names(root))
        )

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
        below, attributes = self._finished()
        self._write_metadata(below)
        root = open_group(self.where, "r+")
        with writing(f"the metadata of {self.where}"):
            clear_scratch(self.where)
            # The last write, and a single one: from here on the image is whole.
            root.attrs.put(attributes)
        self._writing = False
        self._forget_journal()
        self.close()
