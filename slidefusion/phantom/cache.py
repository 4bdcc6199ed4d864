"""A bounded cache whose values are made once, by one thread, while the others wait."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Cache"]

T = TypeVar("T")


class Cache:
    """Least recently used values, up to a total size.

    >>> cache = Cache(limit_bytes=100)
    >>> cache.get("a", lambda: (1, 60)), cache.get("a", lambda: (2, 60))
    (1, 1)
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """The value of ``key``; ``make`` gives it and its size in bytes when it is missing."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0]  # type: ignore[no-any-return]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._held:  # another thread made it meanwhile
                    return self._held[key][0]  # type: ignore[no-any-return]
            try:
                value, size = make()
                with self._lock:
                    # It may be there: evicted while this thread waited, then made by another.
                    self._bytes += size - self._held.pop(key, (None, 0))[1]
                    self._held[key] = (value, size)
                    while self._bytes > self._limit and len(self._held) > 1:
                        self._bytes -= self._held.popitem(last=False)[1][1]
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value
