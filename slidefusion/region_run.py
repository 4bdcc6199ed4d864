"""The regions of an output, made by tasks: from where an earlier run stopped to the last one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidefusion.errors import ProcessingError
from slidefusion.geometry import Window
from slidefusion.omezarr.check import CheckedImage, Damage, find_damage
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.omezarr.output import Output
from slidefusion.omezarr.shards import shard_fault, size_fault
from slidefusion.omezarr.store import is_url, writing
from slidefusion.progress import progress_bar
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.preflight import check_workers_see
from slidefusion.tasks.report import RunReport
from slidefusion.tasks.requirements import Requirement
from slidefusion.tasks.scheduling import run_tasks

__all__ = ["RegionTasks", "RunOptions", "run_regions"]

_LOG = logging.getLogger("slidefusion")

_REPAIRS = 2
"""How often damage that ``verify`` finds is repaired before it is called lasting."""


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about it; none of it changes a byte of the output."""

    client: Any | None = None
    progress: bool = True
    overwrite: bool = False
    verify: bool = False
    """Read all again at the end, or of an output that is complete, and repair what is damaged."""
    retries: int = 3
    """How often a region is tried again whose error may pass."""
    report: str | Path | None = None
    """Local JSON file to write, with times, bytes, retries and memory."""


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
    """Of a key: the rectangle at level 0 and the planes (None in an image without z)."""
    megapixels: float
    """Level-0 pixels of all regions times the planes that are read for them, in millions."""
    resources: Mapping[str, float] | None = None
    needs: Requirement | None = None

    def describe(self, key: tuple[int, ...]) -> str:
        """A region in words."""
        window, planes = self.place(key)
        which = "" if planes[0] is None else f" of plane {planes[0]}"
        if len(planes) > 1:
            which = f" of planes {planes[0]}-{planes[-1]}"
        return (
            f"{self.name}, region y {window.y}-{window.bottom}, x {window.x}-{window.right}{which}"
        )


def run_regions(output: Output, tasks: RegionTasks, job: Any, options: RunOptions) -> None:
    """Make what is not finished yet of ``output``, and finish it; closes it in any case.

    Raises
    ------
    ProcessingError
        When regions failed (after the others are finished), or what was written is damaged in spite
        of repeated writing. The output stays marked incomplete.
    """
    with output:
        _Regions(output, tasks, job, options).run()


class _Regions:
    def __init__(self, output: Output, tasks: RegionTasks, job: Any, options: RunOptions) -> None:
        self.output, self.tasks, self.job, self.options = output, tasks, job, options
        self.done = output.journal.done
        self.index = {key: k for k, key in enumerate(tasks.keys)}

    def run(self) -> None:
        output, options, tasks = self.output, self.options, self.tasks
        if output.was_complete:
            damaged = self._verify()
            if damaged is None:
                return
            for index in damaged:
                output.journal.unmark(index)
            output.reopen()  # incomplete from here on, before anything is deleted
            self._take_back(damaged)
        else:
            self._distrust()
        if options.client is not None and not is_url(output.where):
            check_workers_see(options.client, [Path(output.where, LOCK_NAME)])
        before = int(self.done.sum())
        report = RunReport(tasks.name, output.where, len(tasks.keys), before, tasks.megapixels)
        if options.report is not None:
            report.write(
                options.report, "running"
            )  # a place that cannot be written to, is told now
        state = "failed"
        try:
            self._make(report)
            for _ in range(_REPAIRS if options.verify else 0):
                output.write_upper()
                damaged = self._verify()
                if damaged is None:
                    report.verified = "every shard was read again and agrees with its neighbours"
                    break
                self._take_back(damaged)
                self._make(report)
            else:
                if options.verify:
                    raise ProcessingError(
                        f"{output.where} is damaged again each time that it is written: check the "
                        "disk, then run again"
                    )
            self._look_for_all(report)
            output.finish()
            state = "complete"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            _LOG.info("output=%s state=%s %s", output.where, state, report.summary())
            if options.report is not None:
                report.write(options.report, state)

    def _make(self, report: RunReport) -> None:
        """Run the tasks of all regions that are not finished."""
        tasks, output, total = self.tasks, self.output, len(self.tasks.keys)
        pending = [key for key in tasks.keys if not self.done[self.index[key]]]
        with progress_bar(
            tasks.label,
            total,
            total - len(pending),
            enabled=self.options.progress,
            megapixels=tasks.megapixels,
        ) as advance:

            def on_done(key: tuple[int, ...]) -> None:
                output.check()
                output.journal.mark(self.index[key])
                advance()

            def on_outcome(key: tuple[int, ...], outcome: Outcome) -> None:
                report.note(tasks.describe(key), outcome)

            run_tasks(
                tasks.function,
                self.job,
                pending,
                client=self.options.client,
                name=tasks.name,
                on_done=on_done,
                retries=self.options.retries,
                resources=tasks.resources,
                needs=tasks.needs,
                describe=tasks.describe,
                on_outcome=on_outcome,
            )

    def _files(self, key: tuple[int, ...]) -> Iterator[tuple[str, int]]:
        """The shards of a region in all images, and how many chunks each holds."""
        window, planes = self.tasks.place(key)
        for image in self.output.images:
            for z in planes:
                yield from image.layout.shard_files(image.name, window, z)

    def _distrust(self) -> None:
        """Take back the mark of regions whose shards are missing or torn.

        In an object store, where an object is whole if it is there, by one listing.
        """
        where = self.output.where
        finished = [key for key in self.tasks.keys if self.done[self.index[key]]]
        if not finished:
            return
        fault: Callable[[str, int], str | None]
        if is_url(where):
            sizes = _listing(where)

            def fault(name: str, chunks: int) -> str | None:
                return size_fault(sizes[name], chunks) if name in sizes else "is missing"
        else:

            def fault(name: str, chunks: int) -> str | None:
                return shard_fault(Path(where, name), chunks)

        for key in finished:
            for name, chunks in self._files(key):
                reason = fault(name, chunks)
                if reason is not None:
                    _LOG.warning(
                        "%s: made again, since its shard %s %s",
                        self.tasks.describe(key),
                        name,
                        reason,
                    )
                    self._take_back([self.index[key]])
                    break

    def _take_back(self, indices: Iterable[int]) -> None:
        """Note these regions as not finished, and let nothing damaged be in the way.

        Writing to an object store, zarr-python reads the old shard first, and fails if it is torn.
        """
        where, keys = self.output.where, self.tasks.keys
        names = []
        for index in indices:
            self.output.journal.unmark(index)
            names += [name for name, _ in self._files(keys[index])]
        if is_url(where):
            import fsspec

            filesystem, root = fsspec.core.url_to_fs(where)
            for image in self.output.images:
                names += [name for name, _ in image.layout.upper_files(image.name)]
            with writing(f"(delete) damaged shards of {where}"):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        filesystem.rm_file(f"{root}/{name}")

    def _look_for_all(self, report: RunReport) -> None:
        """Before the output is called complete: is every shard of every region there?"""
        where = self.output.where
        if is_url(where):
            return
        size = missing = 0
        for key in self.tasks.keys:
            for name, _ in self._files(key):
                try:
                    size += Path(where, name).stat().st_size
                except OSError:
                    missing += 1
                    self.output.journal.unmark(self.index[key])
        if missing:
            raise ProcessingError(
                f"{missing} files that were written to {where} are gone: something else deletes "
                "there; stop it, then run again to make them anew"
            )
        report.stored_bytes = size

    def _verify(self) -> list[int] | None:
        """Indices of the regions that are damaged, or None when nothing is.

        The list is empty when only levels are that are made at the end.
        """
        output = self.output
        images = []
        by_regions: set[str] = set()  # arrays that regions write
        for image in output.images:
            layout = image.layout
            arrays = tuple(f"{image.name}/{n}".lstrip("/") for n in range(layout.levels))
            by_regions.update(arrays[: layout.region_levels])
            images.append(CheckedImage(arrays, layout.axes, layout.method))
        damages = find_damage(
            output.where, images, client=self.options.client, retries=self.options.retries
        )
        for damage in damages:
            _LOG.warning("%s: %s", output.where, damage)
        if not damages:
            return None
        return sorted(self._regions_of(d for d in damages if d.array in by_regions))

    def _regions_of(self, damages: Iterable[Damage]) -> set[int]:
        found = set()
        by_plane: dict[int | None, list[Window]] = {}
        for damage in damages:
            y, x, height, width = (side << damage.level for side in damage.window)
            by_plane.setdefault(damage.z, []).append(Window(y, x, height, width))
        for key, index in self.index.items():
            window, planes = self.tasks.place(key)
            for z in planes:
                if any(_overlap(window, other) for other in by_plane.get(z, ())):
                    found.add(index)
        return found


def _overlap(a: Window, b: Window) -> bool:
    return a.y < b.bottom and b.y < a.bottom and a.x < b.right and b.x < a.right


def _listing(where: str) -> dict[str, int]:
    """Everything in the store, by its path below the root, with its size in bytes."""
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(where)
    filesystem.invalidate_cache()
    found = filesystem.find(root, detail=True)
    return {str(path).removeprefix(f"{root}/"): int(info["size"]) for path, info in found.items()}
