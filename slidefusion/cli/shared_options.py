"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from slidefusion.errors import OptionError, ProcessingError

__all__ = [
    "ClientOption",
    "Options",
    "Overwrite",
    "ProgressOption",
    "ReportOption",
    "RetriesOption",
    "VerifyOption",
    "cluster",
    "numbers",
]

_CONNECT_TIMEOUT = "10s"

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Delete an existing Zarr store at the output first.")
]
ProgressOption = Annotated[
    bool, typer.Option("--progress/--no-progress", help="Show a progress bar on a terminal.")
]
ClientOption = Annotated[
    str | None,
    typer.Option(
        "--client",
        "--scheduler",
        metavar="tcp://HOST:PORT|FILE",
        help="Run on this Dask cluster; on this machine's threads otherwise.",
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Read the output again at the end and make anew what is damaged; an output that is "
        "complete is checked and repaired.",
    ),
]
RetriesOption = Annotated[
    int, typer.Option(help="How often a region is tried again whose error may pass.")
]
ReportOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write times, bytes, retries and memory to this JSON file."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("-O", "--option", metavar="NAME=VALUE", help="One option; may be repeated."),
]


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Any | None]:
    """A Dask client connected to ``address``, or None without one; closed at the end.

    ``address`` is a scheduler's, or the path of its scheduler file. The address of the dashboard is
    printed on standard error. Raises :class:`OptionError` for what is neither,
    :class:`ProcessingError` when nothing answers there.
    """
    if address is None:
        yield None
        return
    where = _scheduler(address)
    from distributed import Client

    try:
        asyncio.run(_knock(where))
        client = Client(where, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except OSError as error:
        raise ProcessingError(
            f"no Dask scheduler answers at {address}; start one with 'dask scheduler', or leave "
            "--client out to use this machine's threads"
        ) from error
    except Exception as error:  # each kind of address has errors of its own
        raise OptionError(
            f"--client {address!r}: {where} cannot be connected to ({type(error).__name__}: "
            f"{error}); give an address like tcp://127.0.0.1:8786, or the path of a scheduler file"
        ) from error
    with client:
        print(f"dashboard: {client.dashboard_link}", file=sys.stderr)
        yield client


def _scheduler(given: str) -> str:
    """The address that is given, or stands in the file that is. Raises :class:`OptionError`."""
    scheme, separator, host = given.partition("://")
    if separator and scheme and host:
        return given
    if separator or not Path(given).is_file():
        raise OptionError(
            f"--client {given!r} is no scheduler's address; give one like tcp://127.0.0.1:8786, "
            "or the path of a scheduler file"
        )
    try:
        return str(json.loads(Path(given).read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"--client {given!r} is no scheduler file, which has the address of a scheduler "
            f"({type(error).__name__}: {error})"
        ) from None


async def _knock(address: str) -> None:
    """Connect once, and raise what goes wrong.

    A Dask client that cannot connect leaves tasks behind, which the end of the process waits for
    and complains about.
    """
    from distributed.comm.core import connect
    from distributed.security import Security

    settings = Security().get_connection_args("client")
    comm = await connect(address, timeout=_CONNECT_TIMEOUT, **settings)
    await comm.close()


def numbers(
    name: str, text: str | None, kind: type[int] | type[float], lengths: Sequence[int] = ()
) -> list[Any] | None:
    """The numbers of a comma-separated list, or None.

    Raises :class:`OptionError` for anything else, or another count than ``lengths`` allows.

    >>> numbers("--planes", "-1,0,1", int)
    [-1, 0, 1]
    """
    if text is None:
        return None
    parts = text.replace(",", " ").split()
    what = "whole numbers" if kind is int else "numbers"
    try:
        values = [kind(part) for part in parts]
    except ValueError:
        values = []
    if not values or (lengths and len(values) not in lengths):
        count = f" ({' or '.join(map(str, lengths))} of them)" if lengths else ""
        raise OptionError(
            f"{name}={text!r}: give {what} separated by commas{count}, for example {name}=-1,0,1"
            if kind is int
            else f"{name}={text!r}: give {what} separated by commas{count}"
        )
    return values
