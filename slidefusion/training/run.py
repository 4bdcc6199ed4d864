"""``train``: from stacks with a truth to a file of weights."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slidefusion.errors import OptionError, OutputError, UsageError
from slidefusion.files import clear_partials, is_zarr, local_folder
from slidefusion.omezarr.lock import Lock
from slidefusion.training.card import card_of_run
from slidefusion.training.devices import count_devices
from slidefusion.training.input_ranges import ranges_of
from slidefusion.training.recipe import Recipe

if TYPE_CHECKING:
    from slidefusion.training.trainer import Learner

__all__ = ["train"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VALIDATION = 8
"""Slides kept back for validation, at most; a tenth of fewer than eighty."""


def check_installed() -> None:
    """Raise :class:`UsageError` when a package that only training needs is not installed."""
    needed = ("scipy", "lightning_fabric", "tensorboard")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"training needs {', '.join(missing)}: python -m pip install 'slidefusion[train]'"
        )


def train(
    recipe: Recipe,
    stacks: Sequence[str | Path],
    out: str | Path,
    *,
    truths: Sequence[str | Path] | None = None,
    name: str | None = None,
    blur_model: str | None = "blur",
    devices: int | str = 1,
    accelerator: str = "auto",
    checkpoint_steps: int = 250,
    stop_after: int | None = None,
    command: str | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path | None:
    """Train a network on ``stacks`` with a truth; returns the path of the weights.

    Parameters
    ----------
    recipe
        What to train, and how: ``compact(method)`` or ``published(method)``, changed.
    stacks
        OME-Zarr focus stacks (c, z, y, x), uint8: phantoms, or slides whose truth is a scanner's
        or ``dtcwt``'s fusion of all planes. A truth or depth that lies beside a stack which is
        named, too, as ``*.zarr`` names it, is none of them.
    out
        Folder for checkpoint, curves and weights. A run that was interrupted goes on from its last
        checkpoint, to the same result.
    truths
        The truth of each stack (c, y, x); by default ``NAME-truth.zarr`` beside ``NAME.zarr``.
    name
        Name of the weights; by default like ``focusgan-1``.
    blur_model
        Weights of the blur model that conditions ``focusgan`` (a name, path or URL), or None to
        train without.
    devices, accelerator
        How many GPUs (``"auto"``: all), and ``"cpu"`` or ``"cuda"``.
    checkpoint_steps, stop_after
        Updates between validations, each with a checkpoint (there is one every two minutes
        besides); where to stop early, as an interruption would (returns None).
    command
        How to make these weights again, for their card.
    on_step
        Called after each update with its number and losses.

    Raises
    ------
    OptionError
        A setting is wrong, or the folder holds a run with other settings.
    OutputError
        The folder cannot be written to, or another run is training there.
    StackError, UnknownNameError
        A stack or truth is missing, or does not fit.
    ProcessingError
        The training diverged, or one of several processes failed.
    UsageError
        A package that training needs is not installed.
    WeightsError
        The blur model's weights are missing or damaged.

    >>> train(compact("focusgan"), stacks, "runs/focusgan-1")  # doctest: +SKIP
    PosixPath('runs/focusgan-1/focusgan-1.safetensors')
    """
    check_installed()
    from slidefusion import weights
    from slidefusion.fusers.network_tiles import resolve_precision
    from slidefusion.training.checkpoint import writing_into
    from slidefusion.training.samples import Crops, digest_of, open_pairs
    from slidefusion.training.trainer import run
    from slidefusion.verbs.truths import without_truths

    _check(recipe, name, checkpoint_steps, stop_after)
    folder, accelerator = check_request(recipe, out, blur_model, devices, accelerator)
    stacks = without_truths([stacks] if isinstance(stacks, str | os.PathLike) else stacks)
    truths = [truths] if isinstance(truths, str | os.PathLike) else truths
    count = count_devices(devices, accelerator)
    recipe = recipe.changed({"precision": resolve_precision(recipe.precision, accelerator)})
    pairs = open_pairs(stacks, truths)
    kept = min(_VALIDATION, len(pairs) // 10)
    training, held = pairs[: len(pairs) - kept], pairs[len(pairs) - kept :]

    masked = recipe.kind.masked and blur_model is not None
    blur = weights.load(str(blur_model), fuser="blur") if masked else None
    if name is None:
        name = f"{recipe.method}-{recipe.planes}" if recipe.is_generator else recipe.method
        name += "-nomask" if recipe.kind.masked and not masked else ""
    if blur is not None and blur.card.pack is None and name == blur.card.name:
        raise OptionError(f"name={name!r} is that of the blur model, which lies beside the weights")
    learner = _learner(recipe, Crops.of(recipe, training), blur)
    multiple = getattr(learner.modules[learner.exported], "multiple", 1)
    if recipe.crop_px % multiple:
        raise OptionError(
            f"crop_px {recipe.crop_px}: this network takes crops whose side is a multiple of "
            f"{multiple} px"
        )
    _check_crop(learner)
    begun = _begin(learner) if recipe.start else None
    validation = _learner(recipe, Crops.of(recipe, held), blur) if held else None
    copied = blur.card if blur is not None and blur.card.pack is None else None
    if copied is not None:
        weights.check_copy(copied, folder)  # told now, and not when the training is over
    with _only_run_in(folder) as lock:

        def told(step: int, losses: dict[str, float]) -> None:
            lock.check()
            if on_step is not None:
                on_step(step, losses)

        network = run(
            learner,
            folder,
            inputs={
                "slides": f"{len(pairs)}, {digest_of(pairs)}",
                "blur_model": blur.card.sha256 if blur else None,
                "start_sha256": begun["sha256"] if begun else None,
                "devices": str(count),  # each takes a batch of its own
            },
            validation=validation,
            devices=devices,
            accelerator=accelerator,
            checkpoint_steps=checkpoint_steps,
            stop_after=stop_after,
            on_step=told,
        )
        if stop_after is not None and stop_after < recipe.steps:
            return None
        if hasattr(network, "merged"):  # a layer less, where two can be one
            network = network.merged()  # type: ignore[operator]
        card = card_of_run(recipe, name, blur, begun, pairs, folder, command)
        if recipe.is_generator:
            card["input_ranges"] = ranges_of(learner, network)
        with writing_into(folder):
            if copied is not None:
                weights.copy_to(copied, folder)  # whoever uses the weights needs it
            return weights.save(folder / f"{name}.safetensors", network, card)


def check_request(
    recipe: Recipe,
    out: str | os.PathLike[str],
    blur_model: str | os.PathLike[str] | None = "blur",
    devices: int | str = 1,
    accelerator: str = "auto",
) -> tuple[Path, str]:
    """Refuse what is wrong whatever the stacks are, before any are made.

    Returns the folder, and ``"cpu"`` or ``"cuda"`` for the accelerator. Raises as :func:`train`.
    """
    import torch

    from slidefusion import weights

    folder = local_folder(out)
    if is_zarr(folder):
        raise OutputError(f"{folder} is a Zarr store: give a folder of its own for the training")
    if accelerator not in ("auto", "cpu", "cuda"):
        raise OptionError(f"accelerator {accelerator!r}: choose 'auto', 'cpu' or 'cuda'")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    count_devices(devices, accelerator)
    if recipe.kind.masked and blur_model is not None:
        weights.look_up(str(blur_model))
    if recipe.start:
        weights.look_up(recipe.start)
    return folder, accelerator


@contextlib.contextmanager
def _only_run_in(folder: Path) -> Iterator[Lock]:
    """Two runs would write over each other's checkpoint, curves and weights."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: give a folder for checkpoint, curves and weights")
    from slidefusion.training.checkpoint import CHECKPOINT

    lock = Lock(str(folder.absolute()))  # which makes the folder
    try:
        for name in (f"{CHECKPOINT}.safetensors", "losses.csv", "validation.csv"):
            clear_partials(folder / name)
        yield lock
    finally:
        lock.release()


def _check(recipe: Any, name: Any, checkpoint_steps: int, stop_after: int | None) -> None:
    if not isinstance(recipe, Recipe):
        raise OptionError(
            f"recipe={recipe!r} is no Recipe: give one, for example "
            "slidefusion.training.recipe.compact('focusgan')"
        )
    if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        raise OptionError(
            f"name={name!r}: the weights become files of that name; give letters, digits, '.', '_' "
            "and '-'"
        )
    from slidefusion.training.checkpoint import CHECKPOINT

    if name == CHECKPOINT:
        raise OptionError(f"name={name!r}: the run keeps its checkpoint there; choose another")
    if checkpoint_steps < 1 or (stop_after is not None and stop_after < 1):
        raise OptionError(
            f"checkpoint_steps {checkpoint_steps}, stop_after {stop_after}: both must be at least 1"
        )


def _check_crop(learner: Learner) -> None:
    """Whether the discriminator, which may join thousands of updates later, sees such crops."""
    import torch

    judge = learner.modules.get("discriminator")
    if judge is None:
        return
    recipe = learner.recipe
    side = recipe.crop_px
    condition = None
    if recipe.kind.conditioned:
        condition = torch.zeros(1, 3 * recipe.planes, side, side)
    training = judge.training
    try:
        with torch.inference_mode():
            judge.eval()(torch.zeros(1, 3, side, side), condition)
    except (RuntimeError, ValueError) as error:
        raise OptionError(
            f"crop_px {side}: the discriminator needs larger crops ({error}); choose 64 or more, "
            "fewer layers for it, or adversarial_weight=0"
        ) from error
    finally:
        judge.train(training)


def _learner(recipe: Recipe, crops: Any, blur: Any) -> Learner:
    try:
        return _built(recipe, crops, blur)
    except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, ValueError) as error:
        raise OptionError(
            f"there is no network {recipe.kind.network} of {recipe.network} with a discriminator "
            f"of {recipe.discriminator} ({type(error).__name__}: {error}): change network.* or "
            "discriminator.*"
        ) from error


def _built(recipe: Recipe, crops: Any, blur: Any) -> Learner:
    import torch

    torch.manual_seed(recipe.seed)  # the networks start alike in every run
    if recipe.method == "blur":
        from slidefusion.training.blur import BlurLearner

        return BlurLearner(recipe, crops)
    if recipe.method == "cnn":
        from slidefusion.training.classifier import ClassifierLearner

        return ClassifierLearner(recipe, crops)
    from slidefusion.training.adversarial import AdversarialLearner

    return AdversarialLearner(recipe, crops, None if blur is None else blur.network)


def _begin(learner: Learner) -> dict[str, Any]:
    """Give the network the weights it starts from; returns what the card says of them."""
    from slidefusion import weights

    recipe = learner.recipe
    network: Any = learner.modules[learner.exported]
    if hasattr(network, "merged"):
        raise OptionError(
            f"start: {recipe.method} cannot, since what is exported of it has lost a layer"
        )
    planes = recipe.planes if recipe.is_generator else None
    found = weights.load(recipe.start, fuser=recipe.method, planes=planes)
    try:
        if hasattr(network, "start_from"):
            network.start_from(found.network, seed=recipe.seed)
        elif found.network.config == network.config:
            network.load_state_dict(found.network.state_dict())
        else:
            raise ValueError(
                f"a network of {network.config} can start from the same, not from "
                f"{found.network.config}"
            )
    except ValueError as error:
        raise OptionError(
            f"start={recipe.start!r}: {error}: choose other weights, or change network.* of the "
            "recipe"
        ) from error
    told = ("steps", "command", "commit", "started_from")  # of every run since the first
    told_of = {key: found.card.facts.get(key) for key in told}
    return {"name": found.card.name, "sha256": found.card.sha256, **told_of}
