"""The calls about collections. They are about all of the tenant's, whichever the client's own is."""

from __future__ import annotations

from quantum_db.client.calls import Calls
from quantum_db.client.loop import blocking
from quantum_db.client.results import Json


class CollectionCalls(Calls):
    """Collections. Answers are those of the REST API."""

    async def create_collection(self, name: str, *, dimension: int | None = None) -> Json:
        """Create a collection; without a dimension, its first vector decides it. Idempotent.

        Raises:
            Conflict: the name stands for a collection with another dimension.
        """
        answer: Json = await self.call("create_collection", {"name": name, "dimension": dimension})
        return answer

    async def collection(self, name: str) -> Json:
        """Return a collection, with the number of its ``entities``. Raises NoSuchCollection."""
        answer: Json = await self.call("collection", name)
        return answer

    async def collections(self, *, cursor: str = "", limit: int = 100) -> tuple[tuple[Json, ...], str | None]:
        """Return a page of collections by name, and the cursor of the next page."""
        answer = await self.call("list_collections", {"cursor": cursor, "limit": limit})
        return tuple(answer["collections"]), answer["next"]

    async def drop_collection(self, name: str) -> None:
        """Delete a collection with all that is in it. Raises NoSuchCollection."""
        await self.call("drop_collection", name)

    create_collection_sync = blocking(create_collection)
    collection_sync = blocking(collection)
    collections_sync = blocking(collections)
    drop_collection_sync = blocking(drop_collection)
