"""Files of entities: what is written comes back to the last bit, and damage is told."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantum_db.errors import CorruptData, InvalidRequest, QuantumDBError, Unavailable
from quantum_db.transfer import parquet
from quantum_db.transfer.formats import Row, RowSource, RowWriter, format_of
from quantum_db.transfer.jsonl import JsonLinesSource, JsonLinesWriter
from quantum_db.transfer.parquet import ParquetSource, ParquetWriter

KINDS = {"jsonl": (JsonLinesWriter, JsonLinesSource), "parquet": (ParquetWriter, ParquetSource)}
both = pytest.mark.parametrize("kind", list(KINDS))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
vectors = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    contexts: list[dict[str, Any]] = []
    for name in draw(st.lists(texts, max_size=3, unique=True)):
        contexts.append({"name": name, "weight": draw(st.floats(0, 1))})
        if draw(st.booleans()):
            contexts[-1]["vector"] = draw(vectors)
    row = {"id": draw(texts), "contexts": contexts, "coherence_time_ms": draw(st.floats(1e-3, 1e12))}
    row["metadata"] = draw(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=3))
    if draw(st.booleans()):
        row["version"] = draw(st.integers(0, 2**63 - 1))
    return {**row, "vector": draw(vectors)} if draw(st.booleans()) else row


def written(kind: str, path: Path, content: list[Row]) -> Path:
    writer: RowWriter = KINDS[kind][0](path)
    for row in content:
        writer.write(row)
    writer.finish()
    return path


def opened(kind: str, path: Path) -> RowSource:
    source: RowSource = KINDS[kind][1](path)
    return source


def plain(row: Row) -> str:
    """The row as JSON text, vectors as float32, floats by their shortest digits: equal texts are equal bits."""

    def bits(holder: Row) -> Row:
        return holder | {"vector": np.asarray(holder["vector"], np.float32).tolist()} if "vector" in holder else holder

    return json.dumps(bits({**row, "contexts": [bits(context) for context in row["contexts"]]}), sort_keys=True)


def some(count: int) -> list[Row]:
    rng = np.random.default_rng(count)
    made = []
    for i in range(count):
        context = {"name": "c", "weight": 1.0, "vector": rng.standard_normal(8).astype(np.float32).tolist()}
        made.append({"id": f"e{i}", "contexts": [context], "coherence_time_ms": 1.0, "metadata": {"n": i}})
    return made


@both
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(rows(), max_size=6), groups=st.integers(1, 4), after=st.integers(0, 6))
def test_rows_come_back_to_the_last_bit_from_any_place(
    kind: str, tmp_path: Path, content: list[Row], groups: int, after: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROWS_A_GROUP", groups)
        patch.setattr(parquet, "_ROWS_A_READ", 2)
        source = opened(kind, written(kind, tmp_path / f"f.{kind}", content))
        assert source.total == len(content)
        found = list(source.rows(None))
        assert [plain(row) for _, row in found] == [plain(row) for row in content]
        assert [position for position, _ in found] == list(range(1, len(content) + 1))
        assert [plain(row) for _, row in source.rows(after)] == [plain(row) for row in content[after:]]


def test_numbers_of_a_vector_are_written_as_float32(tmp_path: Path) -> None:
    row = {"id": "a", "vector": [0.10000000149011612], "contexts": [], "coherence_time_ms": 1.0, "metadata": {}}
    text = written("jsonl", tmp_path / "f.jsonl", [row]).read_text().splitlines()[1]
    assert '"vector":[0.1]' in text


@both
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS_A_GROUP", 100)

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.{kind}"
        tracemalloc.start()
        written(kind, path, some(0))
        writer = KINDS[kind][0](path)
        (row,) = some(1)
        for _ in range(count):
            writer.write(row)
        writer.finish()
        assert sum(1 for _ in opened(kind, path).rows(None)) == count
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    peak(100)
    assert peak(8_000) < peak(1_000) + 300_000


# Damage


@both
def test_every_cut_is_found(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS_A_GROUP", 4)
    whole = written(kind, tmp_path / f"whole.{kind}", some(10)).read_bytes()
    path = tmp_path / f"cut.{kind}"
    line_ends = [i + 1 for i, byte in enumerate(whole[:-1]) if byte == ord("\n")]
    for size in {*range(0, len(whole) - 1, 97), *(line_ends if kind == "jsonl" else [])}:
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptData if kind == "parquet" or size > 60 else QuantumDBError) as caught:
            list(opened(kind, path).rows(None))
        assert str(path) in caught.value.detail


def flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def test_a_changed_digit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = written("jsonl", tmp_path / "f.jsonl", some(10))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"n":3', b'"n":4')
    path.write_bytes(b"".join(lines))
    with pytest.raises(CorruptData, match=r"lines 2 to 11 do not match the checksum in line 12"):
        JsonLinesSource(path)
    lines[4] = lines[4].replace(b'"n":4', b'"n":')
    path.write_bytes(b"".join(lines))
    with pytest.raises(CorruptData, match=r"line 5: is not a JSON object"):
        JsonLinesSource(path)


def test_a_flipped_bit_names_its_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS_A_GROUP", 50)
    path = written("parquet", tmp_path / "f.parquet", some(200))
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(2).column(4)
    start, end = column.data_page_offset, column.data_page_offset + column.total_compressed_size
    path.write_bytes(flipped(whole, (start + end) // 2))
    source = ParquetSource(path)
    found = []
    with pytest.raises(CorruptData, match=r"row group 2 \(from 0 to 3\)"):
        found += [position for position, _ in source.rows(None)]
    assert len(list(take(source.rows(None), 100))) == 100, "the groups before it are read"
    assert len(list(source.rows(150))) == 50, "and those behind it"


def take(rows: Iterator[Any], count: int) -> Iterator[Any]:
    for _ in range(count):
        yield next(rows)


# Files that are not ours


def test_other_versions_and_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"format": "quantum-db-entities", "version": 2}\n{"rows": 0}\n')
    with pytest.raises(InvalidRequest, match=r"format version 2; this program reads version 1"):
        JsonLinesSource(path)
    path.write_text('{"format": "something", "version": 1}\n{"rows": 0}\n')
    with pytest.raises(CorruptData, match="its format is 'something'"):
        JsonLinesSource(path)
    path.write_text('{"id": "a", "vector": [1.0]}\n')
    with pytest.raises(InvalidRequest, match=r'must be \{"format":"quantum-db-entities","version":1\}'):
        JsonLinesSource(path)
    with pytest.raises(Unavailable, match="No such file"):
        JsonLinesSource(tmp_path / "nowhere.jsonl")
    with pytest.raises(Unavailable, match="No such file"):
        ParquetSource(tmp_path / "nowhere.parquet")
    with pytest.raises(InvalidRequest, match=r"must end in \.jsonl"):
        format_of(tmp_path / "f.csv")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda s: s.with_metadata({b"format": b"quantum-db-entities", b"version": b"7"}), InvalidRequest, "version 7"),
        (lambda s: s.with_metadata({}), CorruptData, "its format is ''"),
        (lambda s: s.remove(1), InvalidRequest, "the column 'vector' must be there"),
        (
            lambda s: s.set(0, pa.field("id", pa.int64())),
            InvalidRequest,
            "the column 'id' must be there, with the type",
        ),
    ],
)
def test_other_parquet_files_are_refused(
    tmp_path: Path, change: Callable[[pa.Schema], pa.Schema], kind: type[QuantumDBError], message: str
) -> None:
    path = tmp_path / "f.parquet"
    schema = change(parquet.SCHEMA)
    pq.write_table(schema.empty_table(), path)
    with pytest.raises(kind, match=message):
        ParquetSource(path)


def test_lines_made_by_hand_need_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"format": "quantum-db-entities", "version": 1}\n{"id": "a", "vector": [1.0]}\n{"rows": 1}\n')
    assert list(JsonLinesSource(path).rows(None)) == [(1, {"id": "a", "vector": [1.0]})]


@both
def test_the_identity_changes_with_the_file(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path / f"f.{kind}", some(3))
    first = opened(kind, path).identity
    shutil.copy(path, tmp_path / "other")
    assert opened(kind, path).identity == first
    written(kind, path, some(4))
    assert opened(kind, path).identity != first
