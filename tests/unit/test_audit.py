"""The audit log: what is planted in it is found, at the line where it is; what a crash leaves is mended."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.access.audit import AuditEvent, AuditLog, Broken, Head, _hash, read_head, verify
from quantum_db.errors import CorruptData, InvalidRequest, Unavailable


def event(n: int, **changes: object) -> AuditEvent:
    usual = AuditEvent(float(n), "key:abc", "a", "insert", f"e{n}", "ok", 200, f"request-{n}", "127.0.0.1")
    return AuditEvent(**{**{name: getattr(usual, name) for name in AuditEvent.__slots__}, **changes})  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log.append([event(n) for n in range(1, 6)])
    log.append([event(n) for n in range(6, 10)])
    log.close()
    return path


def test_a_whole_log_is_found_whole(path: Path) -> None:
    found = verify(path)
    assert isinstance(found, Head)
    assert found.count == 9
    assert found == read_head(path) == Head.parsed(str(found))
    assert verify(path, found) == found
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["about"] for line in lines] == [f"e{n}" for n in range(1, 10)]
    assert path.stat().st_mode & 0o077 == 0


def changed(lines: list[bytes]) -> int:
    lines[3] = lines[3].replace(b'"status":200', b'"status":403')
    return 4


def changed_and_hashed_anew(lines: list[bytes]) -> int:
    """The hash is that of the changed line: then the next one does not follow."""
    record = json.loads(lines[3])
    record["who"] = "key:other"
    record["hash"] = _hash(record)
    lines[3] = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    return 5


def deleted(lines: list[bytes]) -> int:
    del lines[2]
    return 3


def first_deleted(lines: list[bytes]) -> int:
    del lines[0]
    return 1


def reordered(lines: list[bytes]) -> int:
    lines[4], lines[5] = lines[5], lines[4]
    return 5


def doubled(lines: list[bytes]) -> int:
    lines.insert(4, lines[3])
    return 5


def cut_within(lines: list[bytes]) -> int:
    lines[-1] = lines[-1][:-9]
    return 9


def cut_off(lines: list[bytes]) -> int:
    del lines[-2:]
    return 8


def emptied(lines: list[bytes]) -> int:
    lines.clear()
    return 1


def garbage(lines: list[bytes]) -> int:
    lines[1] = b"\x00\xff\n"
    return 2


FAULTS = [
    changed,
    changed_and_hashed_anew,
    deleted,
    first_deleted,
    reordered,
    doubled,
    cut_within,
    cut_off,
    emptied,
    garbage,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_a_planted_fault_is_found_at_its_line(path: Path, plant: Callable[[list[bytes]], int]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    wanted = plant(lines)
    path.write_bytes(b"".join(lines))
    found = verify(path)
    assert isinstance(found, Broken)
    assert found.line == wanted, found


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    log = AuditLog(path)
    log.append([event(n) for n in range(1, 4)])
    log.close()
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert isinstance(verify(path), Broken)


def test_a_cut_end_is_found_by_a_head_alone(path: Path) -> None:
    """With the head beside it cut back too, only one that was kept elsewhere tells."""
    kept = read_head(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]))
    path.with_name("audit.jsonl.head").write_text(str(Head(6, json.loads(lines[5])["hash"])))
    assert isinstance(verify(path), Head), "this is what cannot be seen from the two files"
    found = verify(path, kept)
    assert found == Broken(7, "is missing: the log had 9 lines")


def test_a_log_that_was_made_anew_is_found_by_a_head_that_was_kept(path: Path) -> None:
    kept = read_head(path)
    path.unlink()
    path.with_name("audit.jsonl.head").unlink()
    log = AuditLog(path)
    log.append([event(n, who="key:forged") for n in range(1, 12)])
    log.close()
    assert isinstance(verify(path), Head)
    assert verify(path, kept) == Broken(9, "is not the line that the head tells of")


def test_a_log_goes_on_after_a_restart_and_cuts_off_what_a_crash_left(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"n":10,"at_s":1')
    log = AuditLog(path)
    log.append([event(10)])
    log.close()
    assert verify(path) == read_head(path)
    assert read_head(path).count == 10  # type: ignore[union-attr]


def test_a_crash_between_the_lines_and_the_head_loses_nothing(path: Path) -> None:
    head = path.with_name("audit.jsonl.head")
    before = head.read_text()
    log = AuditLog(path)
    log.append([event(10)])
    log.close()
    head.write_text(before)
    assert isinstance(verify(path), Head)
    again = AuditLog(path)
    assert again.head.count == 10


def last_changed(lines: list[bytes]) -> None:
    lines[-1] = lines[-1].replace(b"200", b"201")


@pytest.mark.parametrize("plant", [cut_off, emptied, last_changed])
def test_a_damaged_end_is_not_written_on(path: Path, plant: Callable[[list[bytes]], object]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    plant(lines)
    path.write_bytes(b"".join(lines))
    with pytest.raises(CorruptData):
        AuditLog(path)


def test_a_full_disk_leaves_no_part_of_a_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("quantum_db.access.audit.os.fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        log.append([event(10)])
    monkeypatch.undo()
    assert isinstance(verify(path), Head)
    assert log.append([event(10)]).count == 10
    log.close()
    assert verify(path) == log.head


def test_long_texts_are_cut_and_odd_ones_kept(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "a")
    log.append([event(1, about="x" * 10_000, who="\u2028\n\x00\U0001f600" * 100)])
    log.close()
    assert isinstance(verify(tmp_path / "a"), Head)
    assert isinstance(AuditLog(tmp_path / "a").head, Head)


def test_what_is_no_head_is_told(path: Path) -> None:
    with pytest.raises(InvalidRequest):
        Head.parsed("9")
    with pytest.raises(Unavailable):
        verify(path.with_name("none"))
