"""The regions of one output or several, made by tasks, from where an earlier run stopped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import OutputError, ProcessingError
from slidefusion.geometry import Window
from slidefusion.omezarr.access import reading, writing
from slidefusion.omezarr.check import CheckedImage, Damage, find_damage
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.omezarr.output import Output
from slidefusion.omezarr.place import sizes_below
from slidefusion.omezarr.shards import shard_fault, size_fault
from slidefusion.omezarr.store import is_url
from slidefusion.progress import progress_bar
from slidefusion.run_options import RunOptions
from slidefusion.tasks.interrupt import check_stop
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.preflight import check_workers_reach, check_workers_see
from slidefusion.tasks.report import RunReport
from slidefusion.tasks.requirements import Requirement
from slidefusion.tasks.scheduling import run_tasks

__all__ = ["RegionTasks", "run_regions"]

_LOG = logging.getLogger("slidefusion")

_REPAIRS = 2
"""How often damage that ``verify`` finds is repaired before it is called lasting."""
_VERIFIED = "every shard was read again and agrees with its neighbours"


@dataclass(frozen=True)
class RegionTasks:
    """The regions of an output and the function that makes one."""

    name: str
    """Of the tasks, for messages and Dask's dashboard."""
    label: str
    """For the progress bar."""
    function: Callable[..., Any]
    """Called with the job and a key."""
    keys: Sequence[tuple[int, ...]]
    """One a region, in the order of the journal."""
    place: Callable[[tuple[int, ...]], tuple[Window, Sequence[int | None]]]
    """Of a key: the rectangle at level 0 and the planes (None where no image has z)."""
    megapixels: float
    """Level-0 pixels of all regions times the planes that are read for them, in millions."""
    resources: Mapping[str, float] | None = None
    needs: Requirement | None = None
    threads: int | None = None
    """How many run at once on this machine, if not as many as usual."""
    check_input: Callable[[], None] = lambda: None
    """Called before all counts as done; raises if what was read was changed meanwhile."""

    def describe(self, key: tuple[int, ...]) -> str:
        """A region in words."""
        window, planes = self.place(key)
        which = "" if planes[0] is None else f" of plane {planes[0]}"
        if len(planes) > 1:
            which = f" of planes {planes[0]}-{planes[-1]}"
        return (
            f"{self.name}, region y {window.y}-{window.bottom}, x {window.x}-{window.right}{which}"
        )


def run_regions(
    outputs: Sequence[Output], tasks: RegionTasks, job: Any, options: RunOptions
) -> None:
    """Make what is not finished yet of ``outputs``, and finish them; closes them in any case.
    Each task makes its region of all of them; the report names the first.

    Raises
    ------
    ProcessingError
        When regions failed (after the others are finished), or what was written is damaged in spite
        of repeated writing. The outputs stay marked incomplete.
    """
    with contextlib.ExitStack() as stack:
        for output in outputs:
            stack.enter_context(output)
        _Regions(outputs, tasks, job, options).run()


class _Regions:
    def __init__(
        self, outputs: Sequence[Output], tasks: RegionTasks, job: Any, options: RunOptions
    ) -> None:
        self.outputs, self.tasks, self.job, self.options = outputs, tasks, job, options
        self.where = outputs[0].where
        self.index = {key: k for k, key in enumerate(tasks.keys)}

    def run(self) -> None:
        outputs, options, tasks = self.outputs, self.options, self.tasks
        if all(output.was_complete for output in outputs):
            restored = [output.restore_metadata() for output in outputs]
            damaged = self._verify()
            whole = damaged is None and not any(restored)
            if whole and all(output.is_described() for output in outputs):
                report = self._report()
                report.verified = _VERIFIED
                return self._write_report(report, "complete")
            damaged = damaged or []
            self._unmark(damaged)
            self._reopen()  # incomplete from here on, before anything is deleted
            self._take_back(damaged)
        else:
            self._reopen()
            self._distrust()
        if options.client is not None:
            places = [output.where for output in outputs]
            check_workers_reach(options.client, filter(is_url, places))
            check_workers_see(options.client, [Path(p, LOCK_NAME) for p in places if not is_url(p)])
        report = self._report()
        if options.report is not None:
            report.write(options.report, "running")  # what cannot be written to, is told now
        state = "failed"
        try:
            self._make(report)
            if options.verify:
                self._repair(report)
            self._look_for_all(report)
            tasks.check_input()
            for output in outputs:
                output.finish()
            state = "complete"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            _LOG.info("output=%s state=%s %s", self.where, state, report.summary())
            self._write_report(report, state)

    def _repair(self, report: RunReport) -> None:
        """Read all again and make anew what is damaged, until nothing is."""
        for repairs in range(_REPAIRS + 1):
            try:
                for output in self.outputs:
                    output.write_upper()
            except ProcessingError:
                damaged = self._verify(upper=False)  # it was made of what may be damaged
                if damaged is None:
                    raise
            else:
                damaged = self._verify()
            if damaged is None:
                report.verified = _VERIFIED
                return
            self._take_back(damaged)
            if repairs < _REPAIRS:
                self._make(report)
        raise ProcessingError(
            f"{self.where} is damaged again each time that it is written: check the disk, then run "
            "again"
        )

    def _report(self) -> RunReport:
        tasks, before = self.tasks, int(self._done().sum())
        return RunReport(tasks.name, self.where, len(tasks.keys), before, tasks.megapixels)

    def _write_report(self, report: RunReport, state: str) -> None:
        try:
            if self.options.report is not None:
                report.write(self.options.report, state)
        except OutputError as error:
            if state == "complete":
                raise
            _LOG.warning("%s", error)  # why the run ended matters more

    def _done(self) -> npt.NDArray[np.bool_]:
        """Which regions every output has."""
        done: npt.NDArray[np.bool_]
        done = np.logical_and.reduce([output.journal.done for output in self.outputs])
        return done

    def _unmark(self, indices: Iterable[int]) -> None:
        for index in indices:
            for output in self.outputs:
                output.journal.unmark(index)

    def _reopen(self) -> None:
        for output in self.outputs:
            if output.was_complete:
                output.reopen()

    def _make(self, report: RunReport) -> None:
        """Run the tasks of all regions that are not finished."""
        tasks, total, done = self.tasks, len(self.tasks.keys), self._done()
        pending = [key for key in tasks.keys if not done[self.index[key]]]
        with progress_bar(
            tasks.label,
            total,
            total - len(pending),
            enabled=self.options.progress,
            megapixels=tasks.megapixels,
        ) as advance:

            def note(key: tuple[int, ...], outcome: Outcome) -> None:
                report.note(tasks.describe(key), outcome)
                if outcome.verdict == "done":
                    for output in self.outputs:
                        output.check()
                        output.journal.mark(self.index[key])
                    advance()

            run_tasks(
                tasks.function,
                self.job,
                pending,
                client=self.options.client,
                name=tasks.name,
                retries=self.options.retries,
                resources=tasks.resources,
                threads=tasks.threads,
                needs=tasks.needs,
                describe=tasks.describe,
                on_outcome=note,
            )

    def _files(self, key: tuple[int, ...]) -> Iterator[tuple[str, int]]:
        """Paths or URLs of a region's shards in all images, and how many chunks each holds."""
        window, planes = self.tasks.place(key)
        for output in self.outputs:
            for image in output.images:
                for z in planes if "z" in image.layout.axes else (None,):
                    for name, chunks in image.layout.shard_files(image.name, window, z):
                        yield f"{output.where}/{name}", chunks

    def _distrust(self) -> None:
        """Take back the mark of regions whose shards are missing or torn.

        In an object store, where an object is whole if it is there, by one listing.
        """
        done = self._done()
        finished = [key for key in self.tasks.keys if done[self.index[key]]]
        if not finished:
            return
        fault: Callable[[str, int], str | None]
        if is_url(self.where):
            sizes: dict[str, int] = {}
            for output in self.outputs:
                sizes |= sizes_below(output.where)

            def fault(path: str, chunks: int) -> str | None:
                return size_fault(sizes[path], chunks) if path in sizes else "is missing"
        else:

            def fault(path: str, chunks: int) -> str | None:
                return shard_fault(Path(path), chunks)

        for key in finished:
            check_stop()
            for path, chunks in self._files(key):
                with reading(path):
                    reason = fault(path, chunks)
                if reason is not None:
                    text = "%s: made again, since its shard %s %s"
                    _LOG.warning(text, self.tasks.describe(key), path, reason)
                    self._take_back([self.index[key]])
                    break

    def _take_back(self, indices: Sequence[int]) -> None:
        """Note these regions as not finished, and let nothing damaged be in the way.

        Writing to an object store, zarr-python reads the old shard first, and fails if it is torn.
        """
        self._unmark(indices)
        if is_url(self.where):
            import fsspec

            paths = [path for index in indices for path, _ in self._files(self.tasks.keys[index])]
            for output in self.outputs:
                for image in output.images:
                    upper = image.layout.upper_files(image.name)
                    paths += [f"{output.where}/{name}" for name, _ in upper]
            with writing(f"(delete) damaged shards of {self.where}"):
                for url in paths:
                    filesystem, path = fsspec.core.url_to_fs(url)
                    with contextlib.suppress(FileNotFoundError):
                        filesystem.rm_file(path)

    def _look_for_all(self, report: RunReport) -> None:
        """Before the output is called complete: is every shard of every region there?"""
        if is_url(self.where):
            return
        size = missing = 0
        with reading(f"the shards of {self.where}"):
            for key in self.tasks.keys:
                for path, _ in self._files(key):
                    try:
                        size += Path(path).stat().st_size
                    except (FileNotFoundError, NotADirectoryError):
                        missing += 1
                        self._unmark([self.index[key]])
        if missing:
            rest = "" if Path(self.where, "zarr.json").exists() else "delete what is left of it, "
            raise ProcessingError(
                f"{missing} files written to {self.where} are gone: something else deletes there; "
                f"stop it, {rest}then run again to make them anew"
            )
        report.stored_bytes = size

    def _verify(self, *, upper: bool = True) -> list[int] | None:
        """Indices of the regions that are damaged, or None when nothing is.

        The list is empty when only levels are that are made at the end. Not ``upper`` leaves those
        out.
        """
        found: list[Damage] = []
        regions: set[int] = set()
        for output in self.outputs:
            images = []
            by_regions: set[str] = set()  # arrays that regions write
            for image in output.images:
                layout = image.layout
                arrays = tuple(image.arrays if upper else image.arrays[: layout.region_levels])
                by_regions.update(arrays[: layout.region_levels])
                images.append(CheckedImage(arrays, layout.axes, layout.method))
            damages = find_damage(
                output.where, images, client=self.options.client, retries=self.options.retries
            )
            for damage in damages:
                _LOG.warning("%s: %s", output.where, damage)
            found += damages
            regions |= self._regions_of(d for d in damages if d.array in by_regions)
        return sorted(regions) if found else None

    def _regions_of(self, damages: Iterable[Damage]) -> set[int]:
        places = [self.tasks.place(key) for key in self.index]
        edges = [(window.y, window.x, window.bottom, window.right) for window, _ in places]
        top, left, bottom, right = np.array(edges).reshape(-1, 4).T
        found = np.zeros(len(places), bool)
        holds: dict[int | None, npt.NDArray[np.bool_]] = {None: np.ones(len(places), bool)}
        for damage in damages:
            check_stop()
            if damage.z not in holds:
                holds[damage.z] = np.array([damage.z in planes for _, planes in places])
            y, x, height, width = (side << damage.level for side in damage.window)
            inside = (top < y + height) & (y < bottom) & (left < x + width) & (x < right)
            found |= inside & holds[damage.z]
        return {index for index, hit in zip(self.index.values(), found, strict=True) if hit}
