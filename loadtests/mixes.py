"""What is asked in a load test: mixes of requests over seeded data. Plain Python: neither locust nor Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

COLLECTION: Final = "loadtest"
DIMENSION: Final = 128
ENTITIES: Final = 2_000
GROUPS: Final = 20
GROUP_SIZE: Final = 3
CENTRES: Final = 40
SPREAD: Final = 0.15
"""Small, so that an entity has some fifty near ones, whose order only many shots can tell."""

MIXES: Final[dict[str, dict[str, float]]] = {
    "read-heavy": {"query classical": 0.6, "query balanced": 0.1, "fetch": 0.25, "insert": 0.05},
    "write-heavy": {"query classical": 0.3, "fetch": 0.1, "insert": 0.5, "update": 0.1},
    "quantum-heavy": {"query balanced": 0.5, "query precise": 0.3, "measure": 0.2},
    "provider-heavy": {"query provider": 0.8, "query classical": 0.2},
    "sql": {"sql words": 0.3, "sql statement": 0.3, "sql joins": 0.2, "sql batch": 0.05, "query classical": 0.15},
}
"""Shares of the kinds of requests, which sum to 1: 95% reads, 60% writes, nothing without circuits, and four fifths
that wait for a provider's machine; and questions to an SQL database beside some for vectors."""

DEFAULT_RATES: Final = {
    "read-heavy": 80.0,
    "write-heavy": 60.0,
    "quantum-heavy": 20.0,
    "provider-heavy": 3.0,
    "sql": 20.0,
}
PROVIDER: Final = "ionq"
"""The backend of queries of the kind ``query provider``."""


SQL_DATABASE: Final = "chinook"
SQL_TRACKS: Final = 3_503
_TRACK: Final = "SELECT Name FROM Track WHERE TrackId = {number}"
_TRACKS: Final = "SELECT * FROM Track WHERE TrackId >= {number} ORDER BY TrackId LIMIT 20"
_SALES: Final = """SELECT g.Name, count(*) AS sold, round(sum(l.UnitPrice * l.Quantity), 2) AS revenue
FROM InvoiceLine l JOIN Track t ON t.TrackId = l.TrackId JOIN Genre g ON g.GenreId = t.GenreId
JOIN Album a ON a.AlbumId = t.AlbumId JOIN Artist r ON r.ArtistId = a.ArtistId
WHERE t.TrackId <= {number} GROUP BY g.Name ORDER BY revenue DESC"""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request about ``COLLECTION``: ``name`` groups it with its like."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None = None


def stored(count: int = ENTITIES, seed: int = 0) -> NDArray[np.float64]:
    """Return unit vectors in tight clusters, (count, DIMENSION)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CENTRES, DIMENSION))
    found = centres[np.arange(count) % CENTRES] + SPREAD * rng.normal(size=(count, DIMENSION))
    rounded: NDArray[np.float64] = np.round(found / np.linalg.norm(found, axis=1, keepdims=True), 5)
    return rounded


def entity(number: int, vector: NDArray[np.float64]) -> dict[str, Any]:
    """Return the body of an entity."""
    return {"id": f"load-{number}", "vector": vector.tolist(), "contexts": [{"name": "all", "weight": 1.0}]}


def about(path: str) -> str:
    """Return a path that is about the collection of load tests."""
    return f"{path}?collection={COLLECTION}"


def groups() -> Iterator[dict[str, Any]]:
    """Yield the bodies of the groups: each of entities of one cluster."""
    for group in range(GROUPS):
        members = [f"load-{group + CENTRES * i}" for i in range(GROUP_SIZE)]
        yield {"group_id": f"load-{group}", "entity_ids": members, "correlation_strength": 0.8}


def asks(mix: str, count: int, seed: int = 1) -> list[Ask]:
    """Return the requests of a run, in the order in which they arrive: the same for the same seed. Raises KeyError."""
    rng, vectors, shares = np.random.default_rng(seed), stored(), MIXES[mix]
    kinds = rng.choice(list(shares), size=count, p=list(shares.values()))
    return [_ask(str(kind), rng, vectors) for kind in kinds]


def _ask(kind: str, rng: np.random.Generator, vectors: NDArray[np.float64]) -> Ask:
    if kind.startswith("sql "):
        return _sql(kind, 1 + int(rng.integers(SQL_TRACKS)))
    number = int(rng.integers(len(vectors)))
    near = np.round(vectors[number] + 0.02 * rng.normal(size=DIMENSION), 5)
    if kind == "fetch":
        return Ask(kind, "GET", about(f"/api/v2/vectors/load-{number}"))
    if kind == "insert":
        return Ask(kind, "POST", about("/api/v2/vectors"), entity(number, near))
    if kind == "update":
        return Ask(kind, "PATCH", about(f"/api/v2/vectors/load-{number}"), {"metadata": {"seen": number}})
    if kind == "measure":
        group = int(rng.integers(GROUPS))
        return Ask(kind, "POST", about(f"/api/v2/entanglement/groups/load-{group}/measure"), {"timeout_ms": 30_000})
    body = {"vector": near.tolist(), "context": "all", "timeout_ms": 30_000}
    if kind == "query provider":
        body |= {"mode": "balanced", "backend": PROVIDER, "refine": "always"}
    else:
        body["mode"] = kind.removeprefix("query ")
    return Ask(kind, "POST", about("/api/v2/query"), body)


def _sql(kind: str, number: int) -> Ask:
    """Return a request to the SQL database. Few are the same twice, so few are answered by what was kept."""
    if kind == "sql batch":
        texts = [_TRACK.format(number=number), "how many artists are there?"]
        return Ask(kind, "POST", "/api/v2/sql/batch", {"database": SQL_DATABASE, "statements": texts})
    asked = {
        "sql words": {"question": f"tracks longer than {1_000 * number} milliseconds"},
        "sql statement": {"sql": _TRACKS.format(number=number)},
        "sql joins": {"sql": _SALES.format(number=number)},
    }
    return Ask(kind, "POST", "/api/v2/sql/query", {"database": SQL_DATABASE, **asked[kind]})
