"""What a process sees of Zarr stores at URLs, to compare it with what another one sees."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence

from slidefusion.errors import SlidefusionError
from slidefusion.files import ZARR_NAMES
from slidefusion.tasks.outcomes import Outcome
from slidefusion.tasks.pools import Key
from slidefusion.tasks.scheduling import run_tasks

__all__ = ["stamps_of"]

_NOTHING = "nothing"


def stamps_of(urls: Sequence[str]) -> dict[str, tuple[str | None, str]]:
    """A digest of the metadata at the root of each store, or None and why it cannot be read.

    A store that does not answer is asked again, after pauses.
    """
    found: dict[str, tuple[str | None, str]] = {}

    def note(key: Key, outcome: Outcome) -> None:
        reason = "" if outcome.error is None else str(outcome.error)
        found[urls[key[0]]] = outcome.value, reason

    with contextlib.suppress(SlidefusionError):  # noted
        run_tasks(
            _stamp,
            urls,
            [(k,) for k in range(len(urls))],
            client=None,
            name="reach",
            threads=len(urls),
            describe=lambda key: f"looking at {urls[key[0]]}",
            on_outcome=note,
        )
    return found


def _stamp(urls: Sequence[str], k: int) -> str:
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(urls[k])
    refused: PermissionError | None = None
    for name in ZARR_NAMES:
        try:
            data = filesystem.cat_file(f"{root.rstrip('/')}/{name}")
        except FileNotFoundError:
            continue
        except PermissionError as error:  # which some say of what is not there, too
            refused = error
            continue
        if data.lstrip().startswith(b"{"):  # and is no page that says that nothing is there
            return hashlib.sha256(data).hexdigest()[:16]
    if refused is not None:
        raise refused
    return _NOTHING
