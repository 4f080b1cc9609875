"""The peer of ``benchmarks.serving``: FastAPI and uvicorn in one process, with the same embedded store inside.

``python -m benchmarks.bare_server PORT VECTORS.npy FOLDER``. What one would write first: no keys, no limits, no
validation but that of NumPy, no metrics, and a process that cannot be two. ``POST /query {"vector", "top_k"}``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import orjson
import qdrant_edge as edge
import uvicorn
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray

from quantum_db.stores.points import point_id

A_WRITE = 1_000


def filled(vectors: NDArray[np.float32], folder: Path) -> edge.EdgeShard:
    """Return a shard with the vectors, (N, dimension)."""
    folder.mkdir(parents=True, exist_ok=True)
    params = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=params))
    for start in range(0, len(vectors), A_WRITE):
        points = [
            edge.Point(point_id(f"e{start + i}", 0), vector.tolist(), {"id": f"e{start + i}"})
            for i, vector in enumerate(vectors[start : start + A_WRITE])
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    return shard


def build(shard: edge.EdgeShard) -> FastAPI:
    app = FastAPI()

    @app.post("/query")
    async def query(request: Request) -> Response:
        body = orjson.loads(await request.body())
        vector = np.asarray(body["vector"], dtype=np.float32)
        asked = edge.QueryRequest(
            limit=body["top_k"], query=edge.Query.Nearest(vector.tolist()), with_payload=["id"], with_vector=False
        )
        hits = [{"id": (point.payload or {})["id"], "score": point.score} for point in shard.query(asked)]
        return Response(orjson.dumps({"hits": hits}), media_type="application/json")

    return app


def main() -> None:
    port, vectors, folder = sys.argv[1:]
    app = build(filled(np.load(vectors), Path(folder)))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
