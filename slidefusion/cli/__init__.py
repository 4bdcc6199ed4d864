"""The command line, ``slidefusion …``: the public verbs with the same options, and a few more.

One command a file; none imports anything heavy before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted).

    ``args`` are those of the process by default.

    >>> main(["--version"])  # doctest: +SKIP
    slidefusion 0.1.0
    0
    """
    import sys

    from slidefusion.cli.run import run

    return run(list(sys.argv[1:] if args is None else args))
