"""Imported by a command under test: reading becomes slow enough to be interrupted."""

import time
from typing import Any

from slidefusion.omezarr import journal
from slidefusion.omezarr.sources import ZarrSource

journal._FLUSH_SECONDS = 0.1
_read = ZarrSource.read


def _slowly(self: ZarrSource, *where: Any) -> Any:
    time.sleep(0.05)
    return _read(self, *where)


ZarrSource.read = _slowly  # type: ignore[method-assign]
