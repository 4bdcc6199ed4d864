"""Crops for training: a few planes of a stack and the truth of the same place.

Every crop is a function of (seed, step, number in the batch) alone, so a run that was interrupted
sees the same crops when it goes on.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slidefusion.errors import StackError, UnknownNameError
from slidefusion.geometry import Window
from slidefusion.omezarr.overlap import one_name
from slidefusion.omezarr.store import location
from slidefusion.stack import FocusStack, from_group
from slidefusion.training.recipe import Recipe
from slidefusion.verbs.same_place import check_same_place, fullest_place
from slidefusion.verbs.truths import beside
from slidefusion.wording import counted

__all__ = ["Crops", "Pair", "augmented", "digest_of", "open_pairs"]

Bytes = npt.NDArray[np.uint8]

_BLOCK_PX = 512
"""Side of the block of a slide that crops are taken from."""
_CROPS_A_BLOCK = 2
"""Crops that are taken from one block: what they cost is reading."""
_OFF_CENTRE = 0.3
"""Share of the crops whose centre is not the middle plane."""
_CANDIDATES = 4
"""Random places in a block, of which those with the most in them become crops. Most of a slide is
glass, from which a network learns nothing."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A stack (C, Z, Y, X) and its truth (C, Y, X), both uint8."""

    stack: FocusStack
    truth: FocusStack

    @property
    def middle(self) -> int:
        """Index of the plane whose focus offset is 0."""
        return self.stack.offsets.index(0) if 0 in self.stack.offsets else len(self) // 2

    @property
    def z_step_um(self) -> float | None:
        """Mean distance between planes in µm, or None when unknown."""
        z = self.stack.z_um
        return abs(z[-1] - z[0]) / (len(z) - 1) if z and len(z) > 1 else None

    def __len__(self) -> int:
        return self.stack.shape[1]

    @functools.cached_property
    def probe(self) -> Window:
        """Where the truth has much in it."""
        return fullest_place(self.stack.shape[2:], self.truth_crop)

    def check_content(self) -> None:
        """Raise :class:`StackError` if no plane shows what the truth shows, where it shows much."""
        check_same_place(
            self.truth_crop(self.probe),
            (self.plane_crop(z, self.probe) for z in range(len(self))),
            white=255,
            names=(str(self.truth.store), str(self.stack.store)),
            place=self.probe,
        )

    def truth_crop(self, window: Window) -> Bytes:
        """(3, h, w)."""
        return self._read(self.truth, 0, window)

    def plane_crop(self, z: int, window: Window) -> Bytes:
        """Plane ``z``: (3, h, w)."""
        return self._read(self.stack, z, window)

    @staticmethod
    def _read(stack: FocusStack, z: int, window: Window) -> Bytes:
        assert stack.source is not None
        crop = np.asarray(stack.source.read(z, window))
        return np.broadcast_to(crop, (3, *crop.shape[1:])) if len(crop) == 1 else crop


def digest_of(pairs: Sequence[Pair]) -> str:
    """A short digest of which slides these are, wherever they lie."""
    digest = hashlib.sha256()
    for slide in (slide for pair in pairs for slide in (pair.stack, pair.truth)):
        known = {**slide.identity, "store": Path(slide.store or "").name}
        known.pop("files", None)  # a copy was changed when it was made
        digest.update(json.dumps(known, sort_keys=True, default=str).encode())
    for pair in pairs:  # an image that was changed in place keeps its name and its metadata
        digest.update(pair.truth_crop(pair.probe).tobytes())
        digest.update(pair.plane_crop(pair.middle, pair.probe).tobytes())
    return digest.hexdigest()[:12]


def _truth(stack: str) -> FocusStack:
    where = beside(stack, "truth")
    try:
        return from_group(where, need_z=False)
    except UnknownNameError:
        raise UnknownNameError(
            f"{stack} has no truth: there is nothing at {where}; put it there, for example the "
            "scanner's fused image or all planes fused by dtcwt, or name it (truths=, --truth)"
        ) from None


def open_pairs(
    stacks: Sequence[str | Path], truths: Sequence[str | Path] | None = None
) -> list[Pair]:
    """Open stacks and their truths; without ``truths``, ``NAME-truth.zarr`` beside each stack.

    Raises
    ------
    UnknownNameError
        A stack or a truth is missing.
    StackError
        They are not uint8 with one or three channels, or do not fit each other; or a stack is
        given twice: the slides kept back for validation would be among those trained on.
    """
    if truths is not None and len(truths) != len(stacks):
        raise StackError(
            f"{counted(len(stacks), 'stack')} but {counted(len(truths), 'truth')}: give one for "
            "each stack, in the same order"
        )
    places = [one_name(location(path)) for path in stacks]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise StackError(f"the stack {twice} was given twice: give it once")
    pairs = []
    for number, path in enumerate(stacks):
        where = location(path)
        stack = from_group(where)
        truth = _truth(where) if truths is None else from_group(truths[number], need_z=False)
        for image in (stack, truth):
            if image.dtype != np.uint8 or image.shape[0] not in (1, 3):
                raise StackError(
                    f"{image.store}: {counted(image.shape[0], 'channel')} of {image.dtype}; "
                    "training takes uint8 with 1 or 3 channels"
                )
        if stack.shape[2:] != truth.shape[2:] or (truth.shape[0], 1) != (
            stack.shape[0],
            truth.shape[1],
        ):
            raise StackError(
                f"{truth.store} {truth.shape} is no truth for {stack.store} {stack.shape} "
                "(c, z, y, x): it needs one plane of the same size, with as many channels"
            )
        pairs.append(Pair(stack, truth))
        pairs[-1].check_content()
    if not pairs:
        raise StackError("no stacks to train on; make some with --phantoms")
    return pairs


@dataclass(frozen=True, eq=False)
class Crops:
    """Random crops of ``side_px`` from ``pairs`` with ``planes`` planes each.

    The planes are neighbours of a centre plane, the same number of steps apart. The number of
    steps is 1, or one of those up to ``max_step`` that keep the planes within ``spacing_um`` of
    each other (slides of unknown spacing: any of them). The centre is the middle plane, in
    three of ten crops one beside it.
    """

    pairs: Sequence[Pair]
    planes: int = 1
    side_px: int = 128
    seed: int = 0
    max_step: int = 3
    spacing_um: float = 6.0

    def __post_init__(self) -> None:
        for pair in self.pairs:
            if len(pair) < self.planes:
                raise StackError(
                    f"{pair.stack.store} has {counted(len(pair), 'plane')}, and {self.planes} are "
                    "asked for: leave it out, or train on fewer planes (--planes)"
                )
            if min(pair.stack.shape[2:]) < self.side_px:
                raise StackError(
                    f"{pair.stack.store} is {' x '.join(map(str, pair.stack.shape[2:]))} px, too "
                    f"small for crops of {self.side_px} px: leave it out, or take smaller crops "
                    "(crop_px)"
                )

    @classmethod
    def of(cls, recipe: Recipe, pairs: Sequence[Pair]) -> Crops:
        """Those that a recipe asks for."""
        return cls(
            pairs,
            planes=recipe.planes,
            side_px=recipe.crop_px,
            seed=recipe.seed,
            max_step=recipe.max_step,
            spacing_um=recipe.spacing_um,
        )

    def batch(self, step: int, size: int, *, first: int = 0) -> tuple[Bytes, Bytes]:
        """Planes (N, Z, 3, h, w) and truth (N, 3, h, w) of step ``step``, crops ``first`` on.

        Two batches one after the other have the crops of one that is as large as both.
        """
        planes: list[Bytes] = []
        truths: list[Bytes] = []
        for number in range(first - first % _CROPS_A_BLOCK, first + size, _CROPS_A_BLOCK):
            rng = np.random.default_rng([self.seed, step, number])
            crops = self._crops(rng)
            for crop, truth in crops[max(0, first - number) : first + size - number]:
                planes.append(crop)
                truths.append(truth)
        return np.stack(planes), np.stack(truths)

    def _crops(self, rng: np.random.Generator) -> list[tuple[Bytes, Bytes]]:
        """The fullest places of a block of a slide, fullest first."""
        pair = self.pairs[int(rng.integers(len(self.pairs)))]
        block = self._block(pair, rng)
        truth = pair.truth_crop(block)
        planes = np.stack([pair.plane_crop(z, block) for z in self._choose(pair, rng)])
        side = self.side_px
        ys = rng.integers(block.height - side + 1, size=_CANDIDATES)
        xs = rng.integers(block.width - side + 1, size=_CANDIDATES)
        places = [np.s_[..., y : y + side, x : x + side] for y, x in zip(ys, xs, strict=True)]
        places.sort(key=lambda place: -float(truth[place][1, ::2, ::2].std()))
        return [(planes[place], truth[place]) for place in places[:_CROPS_A_BLOCK]]

    def _block(self, pair: Pair, rng: np.random.Generator) -> Window:
        """A block that lies on the chunks of the store, so that little more is read than used."""
        height, width = pair.stack.shape[2:]
        side = max(self.side_px, _BLOCK_PX)
        y = min(side * int(rng.integers(-(-height // side))), max(height - side, 0))
        x = min(side * int(rng.integers(-(-width // side))), max(width - side, 0))
        return Window(y, x, min(side, height), min(side, width))

    def _choose(self, pair: Pair, rng: np.random.Generator) -> list[int]:
        reach = (self.planes - 1) // 2
        beyond = self.planes - 1 - reach  # an even number of planes has one more above
        last = len(pair) - 1
        z_step_um = pair.z_step_um
        steps = [
            step
            for step in range(1, self.max_step + 1)
            if step == 1 or z_step_um is None or step * z_step_um <= self.spacing_um
        ]
        steps = [step for step in steps if reach * step <= last - beyond * step] or [1]
        step = int(rng.choice(steps))
        centre = pair.middle + (int(rng.choice([-1, 1])) if rng.random() < _OFF_CENTRE else 0)
        centre = min(max(centre, reach * step), last - beyond * step)
        return [centre + step * k for k in range(-reach, beyond + 1)]


def augmented(
    crops: Crops, recipe: Recipe, step: int, part: int, stream: int
) -> Iterator[tuple[Bytes, Bytes, np.random.Generator]]:
    """Crops of ``step`` for process ``part``: planes (Z, 3, h, w) and truth (3, h, w) of each.

    With each comes the generator of random numbers that its augmentation used, for what else is
    drawn. ``stream`` tells apart learners, each of which draws its own.
    """
    size = recipe.batch
    first = part * size
    stacks, truths = crops.batch(step, size, first=first)
    for n in range(size):
        rng = np.random.default_rng([recipe.seed, step, 0, first + n, stream])
        yield (*recipe.augmentation(stacks[n], truths[n], rng), rng)
