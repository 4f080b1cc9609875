"""Entities from a Qdrant collection that something else has filled: a server's, or a folder of qdrant-client."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from quantum_db.errors import CorruptData, InvalidRequest, Unavailable
from quantum_db.transfer.formats import Position, Row

_POINTS_A_READ: Final = 256
_TIMEOUT_S: Final = 30.0

T = TypeVar("T")


class QdrantSource:
    """Implements ``RowSource``: points in the order of their ids. A payload becomes metadata.

    Ids become strings. Close it after use.
    """

    def __init__(self, place: str, api_key: str | None, collection: str, *, named_vectors: bool) -> None:
        """Connect.

        Args:
            place: the URL of a server, or the path of a folder that qdrant-client's local mode has written.
            api_key: of the server, if it has one.
            collection: by its name.
            named_vectors: each named vector of a point becomes a context of this name, all of equal weight. Else
                the points must have one vector without a name.

        Raises:
            InvalidRequest: there is no such collection, or its vectors are of the other kind.
            Unavailable: the server does not answer, or the folder cannot be used.
        """
        self._name = f"Qdrant at {place}"
        self._collection = collection
        self._named = named_vectors
        self.identity: Mapping[str, Any] = {place: collection}
        options: dict[str, Any] = {"path": place}
        if place.startswith(("http://", "https://")):
            timeout_s = math.ceil(_TIMEOUT_S)
            options = {"url": place, "api_key": api_key, "timeout": timeout_s, "check_compatibility": False}
        self._client = self._answer("open", lambda: QdrantClient(**options))
        try:
            if not self._answer("look for the collection", lambda: self._client.collection_exists(collection)):
                raise InvalidRequest(f"{self._name} has no collection {collection!r}")
            info = self._answer("describe the collection", lambda: self._client.get_collection(collection))
            self._check_kind(info.config.params.vectors)
            self.total: int | None = self._answer("count", lambda: self._client.count(collection, exact=True)).count
        except BaseException:
            self.close()
            raise

    def rows(self, after: Position | None) -> Iterator[tuple[Position, Row]]:
        """See ``RowSource.rows``."""
        offset = after
        while True:
            points, following = self._page(offset)
            for point in points:
                position = point.id if isinstance(point.id, int) else str(point.id)
                if position != after:
                    yield position, self._row(point)
            if following is None:
                return
            offset = following

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._client.close()

    def _page(self, offset: Position | None) -> tuple[list[Any], Any]:
        return self._answer(
            "read points",
            lambda: self._client.scroll(
                self._collection, limit=_POINTS_A_READ, offset=offset, with_payload=True, with_vectors=True
            ),
        )

    def _check_kind(self, vectors: object) -> None:
        if isinstance(vectors, dict) and not self._named:
            raise InvalidRequest(
                f"the collection {self._collection!r} has named vectors ({', '.join(sorted(vectors))}); "
                "--contexts-from named-vectors makes contexts of them"
            )
        if self._named and not isinstance(vectors, dict):
            raise InvalidRequest(f"the collection {self._collection!r} has no named vectors to make contexts of")

    def _row(self, point: Any) -> Row:
        """Return what a point holds. A vector that is not dense is left for the cluster to refuse."""
        row: Row = {"id": str(point.id), "metadata": point.payload or {}}
        if not self._named:
            return {**row, "vector": point.vector}
        vectors = point.vector or {}
        weight = 1.0 / max(1, len(vectors))
        contexts = [{"name": name, "weight": weight, "vector": vector} for name, vector in vectors.items()]
        return {**row, "contexts": contexts}

    def _answer(self, doing: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except UnexpectedResponse as error:
            text = error.content.decode(errors="replace")[:200]
            raise Unavailable(f"{self._name} refused to {doing}: {error.status_code} {text}") from error
        except (QdrantException, ResponseHandlingException, OSError, RuntimeError) as error:
            raise Unavailable(f"{self._name} does not {doing}: {error}") from error
        except (ValueError, AssertionError, KeyError) as error:
            raise CorruptData(f"{self._name} cannot be read (to {doing}): {error}") from error
