"""Reading a finished pyramid again: is every shard there, does it decode, do the levels agree?

Each level is compared with the half of the one below it, which also finds pixels that changed on
the disk and still decode.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slidefusion.errors import ProcessingError, SlidefusionError
from slidefusion.geometry import Size, Window
from slidefusion.omezarr.downsample import halve_mean, halve_nearest
from slidefusion.omezarr.read_shards import has_checksums, has_plain_chunks
from slidefusion.omezarr.shards import chunks_of, shard_fault, shard_path, size_fault
from slidefusion.omezarr.sources import read_planes
from slidefusion.omezarr.store import is_url, open_array
from slidefusion.progress import progress_bar
from slidefusion.tasks.outcomes import Outcome, is_out_of_reach
from slidefusion.tasks.scheduling import run_tasks

__all__ = ["CheckedImage", "Damage", "find_damage"]

_BLOCK_PX = 2048


@dataclass(frozen=True)
class Damage:
    """One rectangle of one level that is not as it was written."""

    array: str
    """Path of the array in the store, or of a group that is lost."""
    level: int
    z: int | None
    """Plane, in a stack."""
    window: Window
    """In pixels of that level; empty when the whole array is lost."""
    reason: str

    def __str__(self) -> str:
        plane = "" if self.z is None else f", plane {self.z}"
        y, x, bottom, right = self.window.y, self.window.x, self.window.bottom, self.window.right
        if not bottom:
            return f"{self.array}: {self.reason}"
        return f"array {self.array}{plane}, y {y}-{bottom}, x {x}-{right}: {self.reason}"


@dataclass(frozen=True)
class CheckedImage:
    """One image of a store: the arrays of its levels, and how each was made of the one below."""

    arrays: tuple[str, ...]
    """Paths below the store's root, level 0 first."""
    axes: str
    method: Literal["mean", "nearest"] | None
    """None when it is not known: then the levels are not compared."""
    first_level: int = 0
    """Of the image, where the levels below are missing."""

    def open(self, where: str, level: int, stamp: str) -> Any:
        """The array of that level, opened for reading; once for each ``stamp``."""
        path = self.arrays[level]
        if not is_url(where):
            metadata = Path(where, path, "zarr.json")
            if metadata.is_file():
                stamp = hashlib.sha256(metadata.read_bytes()).hexdigest()
        array = open_array(where, path, "r", stamp)
        # zarrs does not look at the checksum of a chunk of which it decodes a part, at an edge.
        unchecked = has_checksums(array) and not has_plain_chunks(array)
        return open_array(where, path, "r", stamp, fast=False) if unchecked else array


@dataclass(frozen=True)
class _Job:
    where: str
    images: tuple[CheckedImage, ...]
    stamp: str
    """Of this check: arrays that an earlier one opened may have been written anew since."""


def find_damage(
    where: str,
    images: Sequence[CheckedImage],
    *,
    client: Any | None = None,
    retries: int = 3,
    progress: bool = False,
) -> list[Damage]:
    """Read every level of these images of the store at ``where``, and list what is wrong.

    Raises
    ------
    StackError
        An array is missing altogether.
    ProcessingError
        The store does not answer.
    """
    found: list[Damage] = []
    job = _Job(where, tuple(images), uuid.uuid4().hex)

    blocks = list(_blocks(job))
    with progress_bar("verifying", len(blocks), enabled=progress) as advance:

        def note(_: Any, outcome: Outcome) -> None:
            if outcome.verdict == "done":
                found.extend(outcome.value)
                advance()

        run_tasks(
            _check,
            job,
            blocks,
            client=client,
            name="verify",
            retries=retries,
            describe=_names(job),
            on_outcome=note,
        )
    return sorted(found, key=lambda d: (d.array, d.z or 0, d.window))


def _blocks(job: _Job) -> Iterator[tuple[int, ...]]:
    """What is checked at once: image, level, plane, row and column of a block."""
    for k, image in enumerate(job.images):
        for level in range(len(image.arrays)):
            array = image.open(job.where, level, job.stamp)
            height, width = array.shape[-2:]
            rows, columns = _side(array, -2), _side(array, -1)
            planes = array.shape[image.axes.index("z")] if "z" in image.axes else 1
            yield from (
                (k, level, z, row, column)
                for z, row, column in product(
                    range(planes), range(-(-height // rows)), range(-(-width // columns))
                )
            )


def _names(job: _Job) -> Callable[[tuple[int, ...]], str]:
    """What names a block in words; it asks nothing of a store that may not answer by then."""
    sizes = {}
    for k, image in enumerate(job.images):
        for level in range(len(image.arrays)):
            array = image.open(job.where, level, job.stamp)
            sizes[k, level] = Size(*array.shape[-2:]), Size(_side(array, -2), _side(array, -1))

    def name(key: tuple[int, ...]) -> str:
        k, level, z, row, column = key
        whole, block = sizes[k, level]
        y, x = row * block.height, column * block.width
        bottom, right = min(y + block.height, whole.height), min(x + block.width, whole.width)
        plane = f", plane {z}" if "z" in job.images[k].axes else ""
        array = job.images[k].arrays[level]
        return f"verify, array {array}{plane}, y {y}-{bottom}, x {x}-{right} of {job.where}"

    return name


def _side(array: Any, axis: int) -> int:
    """Side of a block: whole shards, and an even number of pixels, so that it halves."""
    side = int((array.shards or array.chunks)[axis])
    side *= max(1, _BLOCK_PX // side)
    return side if side % 2 == 0 else 2 * side


def _check(job: _Job, *key: int) -> list[Damage]:
    """One task: what is wrong with a block; an error when it cannot be told."""
    try:
        return _check_block(job, *key)
    except (SlidefusionError, MemoryError):
        raise
    except Exception as error:  # each object store has exceptions of its own
        raise ProcessingError(
            f"cannot be checked: {type(error).__name__}: {error}; whether it is damaged is not "
            "known: see that the store can be reached and read, then run again"
        ) from error


def _check_block(job: _Job, k: int, level: int, z: int, row: int, column: int) -> list[Damage]:
    image = job.images[k]
    array = image.open(job.where, level, job.stamp)
    height, width = array.shape[-2:]
    rows, columns = _side(array, -2), _side(array, -1)
    y, x = row * rows, column * columns
    window = Window(y, x, min(rows, height - y), min(columns, width - x))
    plane = z if "z" in image.axes else None

    def damage(at: Window, reason: str) -> Damage:
        return Damage(image.arrays[level], image.first_level + level, plane, at, reason)

    faults = [
        damage(at, reason)
        for at, reason in _shard_faults(job.where, image, level, array, window, plane)
    ]
    if faults:
        return faults
    try:
        block = _read(job.where, image, level, array, window, plane)
    except Exception as error:
        if is_out_of_reach(error, remote=is_url(job.where)):
            raise
        return [
            damage(at, f"cannot be decoded ({type(why).__name__}: {why})")
            for at in _shards_in(array, window)
            if (why := _error(job.where, image, level, array, at, plane)) is not None
        ]
    if image.method is None or level + 1 == len(image.arrays):
        return []
    above = image.open(job.where, level + 1, job.stamp)
    if above.shape[-2:] != (-(-height // 2), -(-width // 2)):
        sizes = f"{height} x {width} px, and that {above.shape[-2]} x {above.shape[-1]}"
        return [damage(window, f"does not agree with level {level + 1}: it is {sizes}")]
    half = halve_mean(block) if image.method == "mean" else halve_nearest(block)
    halved = Window(y // 2, x // 2, *half.shape[1:])
    # What is missing or damaged there is told of where that level is checked.
    if any(_shard_faults(job.where, image, level + 1, above, _in_shards(above, halved), plane)):
        return []
    try:
        stored = _read(job.where, image, level + 1, above, halved, plane)
    except Exception as error:
        if is_out_of_reach(error, remote=is_url(job.where)):
            raise
        return []
    differs = half != stored
    if half.dtype.kind == "f":
        differs &= ~(np.isnan(half) & np.isnan(stored))
    return [
        damage(at, f"does not agree with level {level + 1}")
        for at in _shards_in(array, window)
        if differs[(slice(None), *_halved(at, window))].any()
    ]


def _shards_in(array: Any, window: Window) -> Iterator[Window]:
    """The shards (or chunks, where there are no shards) of a block that begins with one."""
    side_y, side_x = (array.shards or array.chunks)[-2:]
    for y in range(window.y, window.bottom, side_y):
        for x in range(window.x, window.right, side_x):
            yield Window(y, x, min(side_y, window.bottom - y), min(side_x, window.right - x))


def _in_shards(array: Any, window: Window) -> Window:
    """The window grown to begin with a shard (or chunk)."""
    side_y, side_x = (array.shards or array.chunks)[-2:]
    y, x = window.y // side_y * side_y, window.x // side_x * side_x
    return Window(y, x, window.bottom - y, window.right - x)


def _halved(at: Window, window: Window) -> tuple[slice, slice]:
    """Where the pixels of ``at`` lie in the half of ``window``."""
    y, x = at.y - window.y, at.x - window.x
    return slice(y // 2, -(-(y + at.height) // 2)), slice(x // 2, -(-(x + at.width) // 2))


def _error(
    where: str, image: CheckedImage, level: int, array: Any, at: Window, z: int | None
) -> Exception | None:
    try:
        _read(where, image, level, array, at, z)
    except Exception as error:
        return error
    return None


def _read(
    where: str, image: CheckedImage, level: int, array: Any, at: Window, z: int | None
) -> npt.NDArray[Any]:
    """(C, h, w); an image without a channel axis has one channel."""
    plane = slice(z or 0, (z or 0) + 1)
    return read_planes(where, image.arrays[level], array, image.axes, plane, at)[:, 0]


def _shard_faults(
    where: str, image: CheckedImage, level: int, array: Any, window: Window, z: int | None
) -> Iterator[tuple[Window, str]]:
    """Shards of the block that are missing or torn: reading would give zeros for a missing one."""
    # Others need not have every shard, nor name them so; copies of ours may have none.
    if image.method is None or array.shards is None or array.metadata.zarr_format != 3:
        return
    side_y, side_x = array.shards[-2:]
    chunks = chunks_of(array)
    plane = () if z is None else (z,)
    for at in _shards_in(array, window):
        key = (0, *plane, at.y // side_y, at.x // side_x)
        name = f"{image.arrays[level]}/{shard_path(key)}"
        reason = _fault(where, name, chunks)
        if reason is not None:
            yield at, f"its shard {name} {reason}"


def _fault(where: str, name: str, chunks: int) -> str | None:
    if not is_url(where):
        return shard_fault(Path(where, name), chunks)
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(where)
    filesystem.invalidate_cache()
    try:
        size = filesystem.size(f"{root}/{name}")
    except FileNotFoundError as error:
        # fsspec says so of whatever a web server answers to the question, with its answer behind.
        if error.__cause__ is not None and is_out_of_reach(error.__cause__, remote=True):
            raise error.__cause__ from None
        return "is missing"
    return size_fault(size, chunks)
