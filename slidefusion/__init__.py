"""slidefusion: a focus stack of a whole slide in, one all-in-focus slide out.

>>> import slidefusion as sf
>>> sf.convert("slide.ome.tif", "stack.zarr")            # doctest: +SKIP
>>> slide = sf.fuse("stack.zarr", "lpp", out="slide.zarr")  # doctest: +SKIP

The names below load on first use, so that importing the package imports nothing heavy.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slidefusion import metrics
    from slidefusion.batch.run import batch
    from slidefusion.evaluation.run import evaluate
    from slidefusion.registry import fuser_options, fusers, get_fuser
    from slidefusion.stack import open_slide, open_stack
    from slidefusion.training.run import train
    from slidefusion.verbs.convert import convert
    from slidefusion.verbs.fuse import fuse
    from slidefusion.verbs.plan_fuse import plan_fuse
    from slidefusion.verbs.verify import verify

    __version__: str

__all__ = [
    "batch",
    "convert",
    "evaluate",
    "fuse",
    "fuser_options",
    "fusers",
    "get_fuser",
    "metrics",
    "open_slide",
    "open_stack",
    "plan_fuse",
    "train",
    "verify",
]

_HOME = {
    "batch": "slidefusion.batch.run",
    "convert": "slidefusion.verbs.convert",
    "evaluate": "slidefusion.evaluation.run",
    "fuse": "slidefusion.verbs.fuse",
    "fuser_options": "slidefusion.registry",
    "fusers": "slidefusion.registry",
    "get_fuser": "slidefusion.registry",
    "open_slide": "slidefusion.stack",
    "open_stack": "slidefusion.stack",
    "plan_fuse": "slidefusion.verbs.plan_fuse",
    "train": "slidefusion.training.run",
    "verify": "slidefusion.verbs.verify",
}


# What runs say of themselves goes where the program that uses the package sends it, or nowhere.
logging.getLogger("slidefusion").addHandler(logging.NullHandler())


class _Package(types.ModuleType):
    """The package itself, with its public names as read-only attributes.

    ``slidefusion.fusers`` is a function and a folder. Importing anything from the folder would set
    the attribute to the folder; here the public name stays what it is.
    """

    def __getattribute__(self, name: str) -> Any:
        home = _HOME.get(name)
        if home is None:
            return super().__getattribute__(name)
        return getattr(importlib.import_module(home), name)

    def __getattr__(self, name: str) -> Any:
        if name == "metrics":
            return importlib.import_module("slidefusion.metrics")
        if name == "__version__":
            from importlib.metadata import version

            return version("slidefusion")
        raise AttributeError(f"module 'slidefusion' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted([*__all__, "__version__"])

    def __reduce__(self) -> tuple[Any, ...]:
        # Modules are pickled by their names, but by their exact type; this one is of another. A
        # function that uses the package is sent to other processes together with it.
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
