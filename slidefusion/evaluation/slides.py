"""What is measured on: stacks, each with the image that counts as right."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.errors import SlidefusionError, StackError, UnknownNameError, UsageError
from slidefusion.fuser import Fuser
from slidefusion.geometry import Window
from slidefusion.stack import FocusStack, open_slide
from slidefusion.stack_inputs import as_stack
from slidefusion.value_range import white_of
from slidefusion.verbs.fuse import fuse
from slidefusion.verbs.same_place import check_same_place, fullest_place
from slidefusion.verbs.truths import beside as place_beside
from slidefusion.wording import counted

__all__ = ["Slide", "fused_reference", "load_image", "open_slides"]

_SAMPLE_PX = 256


@dataclass(frozen=True, eq=False)
class Slide:
    """One stack and the image that results are compared with."""

    name: str
    given: Any
    """The stack as it was given, which :func:`slidefusion.fuse` takes."""
    stack: FocusStack
    reference: Any
    """(C, Y, X) with ``shape``, ``dtype`` and slicing; None while it is still to be fused."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        return self.stack.shape

    def index(self, offset: int) -> int:
        """Index of the plane with this focus offset.

        Raises :class:`UnknownNameError` when there is none.
        """
        if offset not in self.stack.offsets:
            raise UnknownNameError(
                f"{self.name} has no plane {offset:+d}: its focus offsets are "
                f"{self.stack.offsets[0]} to {self.stack.offsets[-1]}; choose fewer or nearer "
                "planes (planes, step)"
            )
        return self.stack.offsets.index(offset)

    def plane(self, offset: int, window: Window) -> npt.NDArray[Any]:
        """``window`` of one plane, (C, h, w)."""
        return self._read(self.index(offset), window)

    def _read(self, z: int, window: Window) -> npt.NDArray[Any]:
        if self.stack.source is not None:
            return np.asarray(self.stack.source.read(z, window))
        assert self.stack.lazy is not None
        return np.asarray(self.stack.lazy[(slice(None), z, *window.slices)])

    @functools.cached_property
    def white(self) -> float:
        """The value that counts as white (`white_of`), of 16 windows spread over the reference."""
        if np.dtype(self.stack.dtype) == np.uint8:
            return 255.0
        *_, height, width = self.shape
        side = min(height, width, _SAMPLE_PX)
        places = [np.linspace(0, size - side, 4).astype(int) for size in (height, width)]
        windows = [Window(int(y), int(x), side, side) for y in places[0] for x in places[1]]
        return white_of(np.concatenate([self.truth(window).ravel() for window in windows]))

    def truth(self, window: Window) -> npt.NDArray[Any]:
        """``window`` of the reference, (C, h, w)."""
        return np.asarray(self.reference[(slice(None), *window.slices)])

    def check_content(self) -> None:
        """Raise :class:`StackError` if no plane shows what the reference shows."""
        _, count, height, width = self.shape
        place = fullest_place((height, width), self.truth)
        check_same_place(
            self.truth(place),
            (self._read(z, place) for z in range(count)),
            white=self.white,
            names=("the image to compare with", self.name),
            place=place,
        )


def open_slides(
    stacks: Sequence[Any],
    images: Sequence[Any] | None,
    *,
    need_truth: bool,
    beside: Sequence[Slide] = (),
) -> list[Slide]:
    """Open stacks, each with its image out of ``images`` or, without, the truth beside it.

    ``need_truth=False`` leaves the reference open (None) where no image is given: it is fused
    later. No name is that of a slide ``beside`` these.

    Raises
    ------
    UsageError
        A stack has no truth, the numbers of stacks and images differ, or an image has another
        size, channels or dtype than its stack.
    """
    if images is not None and len(images) != len(stacks):
        raise UsageError(
            f"{counted(len(stacks), 'stack')} and {counted(len(images), 'image')} to "
            "compare them with were given: give one for each stack, in the same order"
        )
    slides: list[Slide] = []
    for k, given in enumerate(stacks):
        name = given_name = _name(given, k)
        number = k + 1
        while any(slide.name == name for slide in (*beside, *slides)):
            name = f"{given_name} ({number})"
            number += 1
        stack = as_stack(given)
        image: Any = None
        if images is not None:
            image = load_image(images[k], stack.shape[0])
        elif need_truth:
            image = _truth_beside(given, name)
        if image is not None:
            _check(image, stack, name)
        slides.append(Slide(name, given, stack, image))
        if image is not None:
            slides[-1].check_content()
    return slides


def fused_reference(slide: Slide, fuser: str | Fuser, out: Path, client: Any | None) -> Slide:
    """The slide with the fusion of all its planes as its reference, written to ``out``."""
    image = fuse(slide.given, fuser, out=out, client=client, progress=False)
    return Slide(slide.name, slide.given, slide.stack, image)


def load_image(image: Any, channels: int) -> Any:
    """An image (C, Y, X): an array, an OME-Zarr slide, or a picture that Pillow reads.

    A picture of 8 bits is converted to gray for one channel and to RGB for three; one of 16 bits
    is uint16, without its alpha channel.

    Raises :class:`UnknownNameError` when nothing is there, :class:`UsageError` for a file that is
    neither.
    """
    if not isinstance(image, (str, Path)):
        return image
    path = Path(image)
    if path.is_file():
        return _picture(path, channels)
    return open_slide(image)


def _picture(path: Path, channels: int) -> npt.NDArray[Any]:
    from PIL import ImageOps

    from slidefusion.readers.images import decode, opened, wide

    try:
        with opened(str(path)) as picture:
            mode = picture.mode
            frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
            if frames > 1:
                raise ValueError(f"it holds {frames} pictures where one is expected")
            if wide(str(path), mode):
                pixels = decode(str(path))
            else:
                upright = ImageOps.exif_transpose(picture)
                pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    except (OSError, RuntimeError, SyntaxError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is no picture that can be read ({error}); give PNG, JPEG or TIFF of 8 or 16 "
            "bits, or an OME-Zarr image"
        ) from error
    if mode in ("I", "F"):
        raise UsageError(f"{path} has pixels of 32 bits; give a picture of 8 or 16, or an OME-Zarr")
    pixels = np.atleast_3d(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
    with_alpha = pixels.shape[2] in (2, 4)
    return pixels[..., : pixels.shape[2] - with_alpha].transpose(2, 0, 1)


def _truth_beside(given: Any, name: str) -> Any:
    if isinstance(given, (str, Path)):
        place = place_beside(given, "truth")
        try:
            return open_slide(place)
        except UnknownNameError:
            what = f"there is no truth at {place}"
    else:
        what = "an array has no truth beside it"
    raise UsageError(
        f"{name}: {what}; give truths (--truth) if the truth lies elsewhere, or for a real stack "
        "a reference (--reference dtcwt, the fusion of all planes, or --reference FILE)"
    )


def _check(image: Any, stack: FocusStack, name: str) -> None:
    channels, _, height, width = stack.shape
    shape, dtype = tuple(map(int, image.shape)), np.dtype(image.dtype)
    if shape != (channels, height, width) or dtype != stack.dtype:
        raise StackError(
            f"{name}: the image to compare with is {shape} of {dtype} (c, y, x); the stack needs "
            f"{(channels, height, width)} of {stack.dtype}"
        )


def _name(given: Any, k: int) -> str:
    if isinstance(given, (str, Path)):
        text = str(given).rstrip("/").rpartition("/")[2]
        return text.removesuffix(".zarr").removesuffix(".ome")
    try:
        store = as_stack(given).store
    except SlidefusionError:
        store = None
    return _name(store, k) if store else f"stack {k + 1}"
