"""slidefusion: a focus stack of a whole slide in, one all-in-focus slide out.

>>> import slidefusion as sf
>>> sf.convert("slide.ome.tif", "stack.zarr")            # doctest: +SKIP
>>> slide = sf.fuse("stack.zarr", "lpp", out="slide.zarr")  # doctest: +SKIP

The names below load on first use, so that importing the package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slidefusion import metrics
    from slidefusion.registry import fuser_options, fusers, get_fuser
    from slidefusion.stack import open_slide, open_stack
    from slidefusion.verbs.convert import convert
    from slidefusion.verbs.fuse import fuse

__all__ = [
    "convert",
    "fuse",
    "fuser_options",
    "fusers",
    "get_fuser",
    "metrics",
    "open_slide",
    "open_stack",
]

_HOME = {
    "convert": "slidefusion.verbs.convert",
    "fuse": "slidefusion.verbs.fuse",
    "fuser_options": "slidefusion.registry",
    "fusers": "slidefusion.registry",
    "get_fuser": "slidefusion.registry",
    "open_slide": "slidefusion.stack",
    "open_stack": "slidefusion.stack",
}


def __getattr__(name: str) -> Any:
    if name == "metrics":  # a module, not something in one
        return importlib.import_module("slidefusion.metrics")
    if name == "__version__":
        from importlib.metadata import version

        return version("slidefusion")
    if name not in _HOME:
        raise AttributeError(f"module 'slidefusion' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
