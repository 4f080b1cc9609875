"""Entities from NumPy files and Qdrant collections, and how far an import has come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from quantum_db.errors import Conflict, CorruptData, InvalidRequest, QuantumDBError, Unavailable
from quantum_db.transfer.checkpoint import Checkpoint, Progress
from quantum_db.transfer.numpy_files import NumpySource
from quantum_db.transfer.qdrant_source import QdrantSource

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3) + 1


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def read(source: NumpySource | QdrantSource, after: Any = None) -> list[tuple[Any, str, list[float], Any]]:
    found = []
    for position, row in source.rows(after):
        found.append((position, row["id"], list(row.get("vector", ())), row.get("metadata")))
    return found


# NumPy


def test_a_matrix_is_read_with_ids_or_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", np.asfortranarray(MATRIX))
    assert read(NumpySource(path)) == [(i + 1, str(i), MATRIX[i].tolist(), None) for i in range(4)]
    ids = save(tmp_path / "ids.npy", np.array(["a", "b", "c", "d"]))
    assert [row[1] for row in read(NumpySource(path, ids), after=2)] == ["c", "d"]
    numbers = save(tmp_path / "numbers.npy", np.array([10, 20, 30, 40]))
    assert [row[1] for row in read(NumpySource(path, numbers))] == ["10", "20", "30", "40"]
    (tmp_path / "ids.json").write_text('["x", 7, "y", "z"]')
    assert [row[1] for row in read(NumpySource(path, tmp_path / "ids.json"))] == ["x", "7", "y", "z"]


def test_an_archive_holds_all_three(tmp_path: Path) -> None:
    metadata = np.array([json.dumps({"n": i, "deep": [{}]}) for i in range(4)])
    np.savez(tmp_path / "v.npz", vectors=MATRIX, ids=np.arange(4), metadata=metadata)
    source = NumpySource(tmp_path / "v.npz")
    assert source.total == 4
    assert read(source)[2] == (3, "2", MATRIX[2].tolist(), {"n": 2, "deep": [{}]})


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ({"vectors": MATRIX[0]}, InvalidRequest, "must be a matrix of numbers"),
        ({"vectors": MATRIX.astype(str)}, InvalidRequest, "must be a matrix of numbers"),
        ({"other": MATRIX}, InvalidRequest, "must hold the arrays vectors, ids, metadata, not other"),
        ({"vectors": MATRIX, "ids": np.arange(3)}, InvalidRequest, "there are 3 ids for 4 vectors"),
        ({"vectors": MATRIX, "ids": np.ones(4)}, InvalidRequest, "ids must be a flat array of strings"),
        ({"vectors": MATRIX, "metadata": np.array(["{}", "{}", "[]", "{}"])}, CorruptData, r"metadata\[2\]: the meta"),
        ({"vectors": MATRIX.astype(object)}, CorruptData, "without pickles"),
    ],
)
def test_what_is_no_archive_of_vectors_is_told(
    tmp_path: Path, content: dict[str, Any], kind: type[QuantumDBError], message: str
) -> None:
    np.savez(tmp_path / "v.npz", **content)
    with pytest.raises(kind, match=message):
        read(NumpySource(tmp_path / "v.npz"))


def test_damaged_and_missing_numpy_files_are_told(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", MATRIX)
    whole = path.read_bytes()
    np.savez(tmp_path / "v.npz", vectors=MATRIX)
    archive = (tmp_path / "v.npz").read_bytes()
    for name, content in (
        ("cut.npy", whole[:-1]),
        ("head.npy", whole[:20]),
        ("empty.npy", b""),
        ("cut.npz", archive[:-30]),
        ("flipped.npz", archive[:200] + bytes([archive[200] ^ 1]) + archive[201:]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptData, match=name):
            NumpySource(tmp_path / name)
    with pytest.raises(Unavailable, match=r"nowhere\.npy cannot be read"):
        NumpySource(tmp_path / "nowhere.npy")
    (tmp_path / "ids.json").write_text("[1, ")
    with pytest.raises(CorruptData, match=r"ids\.json is not JSON"):
        NumpySource(path, tmp_path / "ids.json")
    (tmp_path / "ids.json").write_text("[1, null]")
    with pytest.raises(InvalidRequest, match="a JSON list of strings or integers"):
        NumpySource(path, tmp_path / "ids.json")


# Qdrant


def filled(folder: Path, vectors: Any, points: list[models.PointStruct]) -> str:
    client = QdrantClient(path=str(folder))
    client.create_collection("things", vectors_config=vectors)
    if points:
        client.upsert("things", points)
    client.close()
    return str(folder)


PLAIN = models.VectorParams(size=3, distance=models.Distance.COSINE)


def test_a_collection_is_read_point_by_point_from_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.transfer.qdrant_source._POINTS_A_READ", 2)
    points = [models.PointStruct(id=i, vector=[1.0, float(i), 0.0], payload={"n": i}) for i in range(1, 6)]
    source = QdrantSource(filled(tmp_path, PLAIN, points), None, "things", named_vectors=False)
    assert source.total == 5
    found = read(source)
    assert [(position, name, metadata) for position, name, _, metadata in found] == [
        (i, str(i), {"n": i}) for i in range(1, 6)
    ]
    assert found[0][2][0] == found[0][2][1] > found[0][2][2] == 0.0
    for i in range(1, 6):
        assert read(source, after=i) == found[i:]
    source.close()


def test_named_vectors_become_contexts(tmp_path: Path) -> None:
    key = "11111111-2222-3333-4444-555555555555"
    points = [
        models.PointStruct(id=7, vector={"title": [1.0, 0.0, 0.0], "body": [0.0, 1.0, 0.0]}),
        models.PointStruct(id=key, vector={"body": [0.0, 0.0, 1.0]}, payload={"only": "body"}),
    ]
    place = filled(tmp_path, {"title": PLAIN, "body": PLAIN}, points)
    source = QdrantSource(place, None, "things", named_vectors=True)
    rows = {row["id"]: row for _, row in source.rows(None)}
    assert {c["name"]: (c["weight"], c["vector"]) for c in rows["7"]["contexts"]} == {
        "title": (0.5, [1.0, 0.0, 0.0]),
        "body": (0.5, [0.0, 1.0, 0.0]),
    }
    assert rows[key] == {
        "id": key,
        "metadata": {"only": "body"},
        "contexts": [{"name": "body", "weight": 1.0, "vector": [0.0, 0.0, 1.0]}],
    }
    source.close()
    with pytest.raises(InvalidRequest, match=r"named vectors \(body, title\); --contexts-from named-vectors"):
        QdrantSource(place, None, "things", named_vectors=False)


def test_other_collections_are_refused(tmp_path: Path) -> None:
    place = filled(tmp_path, PLAIN, [])
    with pytest.raises(InvalidRequest, match="has no collection 'nothing'"):
        QdrantSource(place, None, "nothing", named_vectors=False)
    with pytest.raises(InvalidRequest, match="no named vectors"):
        QdrantSource(place, None, "things", named_vectors=True)
    with pytest.raises(Unavailable, match=r"Qdrant at http://127\.0\.0\.1:9 does not look for the collection"):
        QdrantSource("http://127.0.0.1:9", None, "things", named_vectors=False)


# The state of an import


def test_progress_is_kept_for_one_source_and_target(tmp_path: Path) -> None:
    path = tmp_path / "state"
    mine = Checkpoint(path, {"f": [1, 2]}, "http://a")
    assert mine.load() == Progress()
    mine.save(Progress("point-7", 12, 3))
    assert Checkpoint(path, {"f": [1, 2]}, "http://a").load() == Progress("point-7", 12, 3)
    for source, target in (({"f": [1, 3]}, "http://a"), ({"f": [1, 2]}, "http://b")):
        with pytest.raises(Conflict, match="delete it to begin anew"):
            Checkpoint(path, source, target).load()
    mine.clear()
    mine.clear()
    assert mine.load() == Progress()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"progress": 3}', '{"progress": {"other": 1}}'])
def test_a_damaged_state_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state"
    path.write_text(text)
    with pytest.raises(CorruptData, match="is not the state of an import"):
        Checkpoint(path, {}, "http://a").load()


def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        Checkpoint(tmp_path / "no" / "folder", {}, "http://a").save(Progress())
