"""How what has an id is split over N shards: by a hash that is the same in every process and version."""

from __future__ import annotations

import zlib
from hashlib import blake2b


def shard_of(entity_id: str, shards: int) -> int:
    """Return the shard of an id, below ``shards``."""
    return zlib.crc32(_bytes(entity_id)) % shards


def digest_of(entity_id: str) -> int:
    """Return 64 bits that stand for an id; the upper 32 decide its shard."""
    raw = _bytes(entity_id)
    return zlib.crc32(raw) << 32 | int.from_bytes(blake2b(raw, digest_size=4).digest(), "little")


def shard_of_digest(digest: int, shards: int) -> int:
    """Return the shard of the id that a digest stands for."""
    return (digest >> 32) % shards


def _bytes(entity_id: str) -> bytes:
    return entity_id.encode("utf-8", "surrogatepass")
