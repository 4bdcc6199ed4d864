"""Which arrays have shards that this package can check before anybody takes them for true."""

from __future__ import annotations

from typing import Any

__all__ = ["has_plain_shards"]


def has_plain_shards(metadata: Any) -> bool:
    """Whether the shards of an array, if it has any, are files that end with a checked index.

    zarrs takes the sizes in an index for true and ends the process when they are absurd, so it
    reads only shards whose index this package can check before.
    """
    codecs = tuple(getattr(metadata, "codecs", ()))
    sharding = [codec for codec in codecs if type(codec).__name__ == "ShardingCodec"]
    if not sharding:
        return True
    index = sharding[0].to_dict()["configuration"]
    names = [codec["name"] for codec in index["index_codecs"]]
    endian = index["index_codecs"][0].get("configuration", {}).get("endian")
    plain = len(codecs) == 1 and names == ["bytes", "crc32c"] and endian == "little"
    return plain and index["index_location"] == "end"
