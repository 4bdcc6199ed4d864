"""Parts of objects from file systems and servers that do not know all kinds of ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import FsspecStore

from slidefusion.errors import advise

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["RangedStore"]

_KNOW_SUFFIXES = {"gcs", "gs", "http", "https", "memory", "s3", "s3a"}
"""File systems that can be asked for the end of an object. Others, such as that of Azure, take the
negative start for a place, or fail, so that the size is asked for first."""

_said: set[str] = set()


class RangedStore(FsspecStore):
    """A store at a URL that gives what was asked for, if need be by other means or cut from more.

    Servers may ignore ranges (RFC 9110, section 14.2), as ``python -m http.server`` does, and
    fsspec returns what they send.
    """

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """As the base class has it, but never more than ``byte_range``."""
        if isinstance(byte_range, SuffixByteRequest) and not self._knows_suffixes():
            try:
                byte_range = await self._end(key, byte_range.suffix)
            except self.allowed_exceptions:
                return None
        found = await super().get(key, prototype, byte_range)
        if found is None or byte_range is None or isinstance(byte_range, OffsetByteRequest):
            return found  # zarr asks for what follows an offset nowhere
        if isinstance(byte_range, RangeByteRequest):
            part, asked = slice(byte_range.start, byte_range.end), byte_range.end - byte_range.start
        else:
            part, asked = slice(-byte_range.suffix, None), byte_range.suffix
        if len(found) <= asked:
            return found
        self._say()
        return found[part]

    def _knows_suffixes(self) -> bool:
        protocol = self.fs.protocol
        return not _KNOW_SUFFIXES.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)

    async def _end(self, key: str, length: int) -> RangeByteRequest | None:
        """Where the last ``length`` bytes of an object lie; None for the whole of a shorter one."""
        self.fs.invalidate_cache()  # a listing may be older than the object
        size = (await self.fs._info(f"{self.path}/{key}"))["size"]
        return RangeByteRequest(size - length, size) if size > length else None

    def _say(self) -> None:
        where = self.path if "://" in self.path else str(self.fs.unstrip_protocol(self.path))
        host = "/".join(where.split("/")[:3])
        if host not in _said:
            _said.add(host)
            advise(
                f"{host} sends whole files where parts of them are asked for, so that a chunk of "
                f"{where} costs its whole shard: copy the slide first, or have it served by what "
                "knows ranges, as nginx, Apache and object stores do"
            )
