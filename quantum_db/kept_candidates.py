"""What searches have found, kept while nothing has changed: other circuits may be asked about the same candidates.

The same vector with another mode, more shots or another backend is another question, whose answer has to be made anew,
but of the same candidates. They are kept under the collection's version (``commits.changes``), as answers are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Literal

import orjson

from quantum_db.caching import BoundedCache
from quantum_db.model import Candidates, Entity, Search
from quantum_db.ports import ScrollableReader, Versions

Looked = Literal["kept", "searched"]

KEPT_S: Final = 300.0
ENTITY_BYTES: Final = 500
"""What a candidate takes besides its vectors and metadata."""


class CandidateReader:
    """Implements ``ScrollableReader`` for a collection; what it knows already is not searched again."""

    def __init__(
        self,
        reader: ScrollableReader,
        versions: Versions,
        collection: str,
        kept: BoundedCache[Candidates],
        note: Callable[[Looked], None],
    ) -> None:
        """Join the parts. ``kept`` may be shared with other collections; ``note`` is told of each search."""
        self._reader = reader
        self._versions = versions
        self._collection = collection
        self._kept = kept
        self._note = note

    async def dimension(self) -> int | None:
        """See ``VectorReader.dimension``."""
        return await self._reader.dimension()

    async def fetch(self, ids: Sequence[str]) -> list[Entity | None]:
        """See ``VectorReader.fetch``."""
        return await self._reader.fetch(ids)

    async def scroll(self, after: str | None, limit: int) -> tuple[list[Entity], str | None]:
        """See ``ScrollableReader.scroll``."""
        return await self._reader.scroll(after, limit)

    async def context_names(self) -> list[str]:
        """See ``VectorReader.context_names``."""
        return await self._reader.context_names()

    async def search(self, searches: Sequence[Search]) -> list[Candidates]:
        """See ``VectorReader.search``. What is not kept is searched in one call."""
        version = self._versions.version(self._collection)
        if version is None:
            return await self._reader.search(searches)
        keys = [_key(self._collection, version, search) for search in searches]
        found = [self._kept.get(key) for key in keys]
        missing = [place for place, one in enumerate(found) if one is None]
        for one in found:
            self._note("searched" if one is None else "kept")
        if missing:
            searched = await self._reader.search([searches[place] for place in missing])
            for place, candidates in zip(missing, searched, strict=True):
                found[place] = candidates
                self._kept.put(keys[place], candidates, _size(candidates), KEPT_S)
        return [one for one in found if one is not None]


def _key(collection: str, version: str, search: Search) -> bytes:
    shape = None if search.filter is None else search.filter.model_dump_json()
    asked = (collection, version, search.limit, search.contexts, shape, search.all_contexts, str(search.vector.dtype))
    return hashlib.blake2b(orjson.dumps(asked) + search.vector.tobytes(), digest_size=20).digest()


def _size(candidates: Candidates) -> int:
    """Return about how many bytes candidates take."""
    metadata = sum(len(orjson.dumps(one)) for one in candidates.metadata)
    return candidates.vectors.nbytes + metadata + ENTITY_BYTES * len(candidates.entity_ids)
