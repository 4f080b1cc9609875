"""Encryption at rest: keys and their rotation, journals and files; a wrong key and a flipped bit are found."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.encryption import DATA_KEYS_ENV, Keyring, data_keys
from quantum_db.errors import CorruptData, InvalidSettings, Unavailable
from quantum_db.journals.encrypted import SEALED, EncryptedJournal
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.transfer import sealed_files
from quantum_db.transfer.sealed_files import open_file, seal_file

OLD, NEW, WRONG = ({"old": b"o" * 32}, {"new": b"n" * 32}, {"old": b"w" * 32})
FACTS: list[dict[str, Any]] = [{"secret": "hush", "n": n} for n in range(3)]


def ring(*keys: dict[str, bytes]) -> Keyring:
    held = {key_id: key for one in keys for key_id, key in one.items()}
    return Keyring(next(iter(held), None), held)


def opened(path: Path, *keys: dict[str, bytes]) -> closing[EncryptedJournal]:  # type: ignore[type-var]
    return closing(EncryptedJournal(SqliteJournal(path), ring(*keys)))


def held(path: Path, *keys: dict[str, bytes]) -> list[dict[str, Any]]:
    with opened(path, *keys) as journal:
        return [record for _, record in journal.read("s")]


def test_nothing_of_a_record_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with opened(path, OLD) as journal:
        journal.append("s", FACTS)
    stored = b"".join(one.read_bytes() for one in tmp_path.iterdir())
    assert b"hush" not in stored
    assert SEALED.encode() in stored
    assert held(path, OLD) == FACTS


def test_the_newest_key_writes_and_all_read(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with opened(path) as journal:
        journal.append("s", FACTS[:1])
    with opened(path, OLD) as journal:
        journal.append("s", FACTS[1:2])
    with opened(path, NEW, OLD) as journal:
        journal.append("s", FACTS[2:])
        assert [record for _, record in journal.read("s")] == FACTS
    with pytest.raises(InvalidSettings, match="encrypted with the key 'old', which QUANTUM_DB_DATA_KEYS does not have"):
        held(path, NEW)
    with pytest.raises(InvalidSettings, match="'old'"):
        held(path)
    with opened(path, NEW, OLD) as journal:
        journal.compact("s", 3, FACTS)
    assert held(path, NEW) == FACTS, "the old key is needed no more"


def test_a_wrong_key_is_found(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with opened(path, OLD) as journal:
        journal.append("s", FACTS)
    with pytest.raises(CorruptData, match=r"record 1 of stream 's' cannot be decrypted: .*the key 'old'"):
        held(path, WRONG)


class Moved:
    """A journal whose content somebody changed who can make its checksums right."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.records = records

    def read(self, stream: str, after: int = 0) -> Any:
        yield from enumerate(self.records, start=1)


def test_a_record_of_another_stream_and_a_flipped_bit_are_found(tmp_path: Path) -> None:
    inner = SqliteJournal(tmp_path / "j.sqlite")
    journal = EncryptedJournal(inner, ring(OLD))
    journal.append("other", FACTS)
    (_, record), *_ = inner.read("other")
    with pytest.raises(CorruptData):
        list(EncryptedJournal(Moved([record]), ring(OLD)).read("s"))  # type: ignore[arg-type]
    key_id, text = record[SEALED]
    raw = bytearray(base64.b64decode(text))
    for place in (0, 12, len(raw) // 2, len(raw) - 1):
        raw[place] ^= 1
        flipped = {SEALED: [key_id, base64.b64encode(raw).decode()]}
        with pytest.raises(CorruptData):
            list(EncryptedJournal(Moved([flipped]), ring(OLD)).read("other"))  # type: ignore[arg-type]
        raw[place] ^= 1
    for odd in ({SEALED: []}, {SEALED: None}, {SEALED: ["old", "!"]}, {SEALED: ["old", ""]}, {SEALED: ["old", 7]}):
        with pytest.raises(CorruptData):
            list(EncryptedJournal(Moved([odd]), ring(OLD)).read("s"))  # type: ignore[arg-type]
    journal.close()


def test_a_repeated_write_is_the_same_to_the_journal_below() -> None:
    class Unsure:
        def __init__(self) -> None:
            self.written: list[list[dict[str, Any]]] = []

        def append(self, stream: str, records: Any, *, epoch: int | None = None) -> int:
            self.written.append(list(records))
            if len(self.written) == 1:
                raise Unavailable("no answer")
            return len(records)

    below = Unsure()
    journal = EncryptedJournal(below, ring(OLD))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        journal.append("s", FACTS)
    journal.append("s", FACTS)
    journal.append("s", FACTS)
    assert below.written[0] == below.written[1] != below.written[2]


@pytest.mark.parametrize(
    "text", ["k", "k:", "k:abc", "k:" + "A" * 44, ":" + base64.b64encode(b"x" * 32).decode(), "a b:" + "A" * 43 + "="]
)
def test_what_are_no_keys_is_told_without_being_shown(text: str) -> None:
    with pytest.raises(InvalidSettings, match="key 1: must be an id") as told:
        data_keys({DATA_KEYS_ENV: text})
    assert "AAAA" not in told.value.detail


def test_keys_come_newest_first() -> None:
    one, two = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    found = data_keys({DATA_KEYS_ENV: f"b:{two}, a:{one}"})
    assert (found.newest, [*found.keys]) == ("b", ["b", "a"])
    assert two not in repr(found)
    assert data_keys({}) == Keyring()
    with pytest.raises(InvalidSettings, match="key 2"):
        data_keys({DATA_KEYS_ENV: f"b:{two},b:{one}"})


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_files, "CHUNK_BYTES", 64)


SIZES = [0, 1, 63, 64, 65, 128, 1000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("small_chunks")
def test_a_file_comes_back_as_it_was(tmp_path: Path, size: int) -> None:
    plain, sealed, again = tmp_path / "plain", tmp_path / "sealed", tmp_path / "again"
    plain.write_bytes(os.urandom(size))
    seal_file(plain, sealed, ring(NEW, OLD))
    open_file(sealed, again, ring(OLD, NEW))
    assert again.read_bytes() == plain.read_bytes()
    assert again.stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidSettings, match="'new'"):
        open_file(sealed, tmp_path / "x", ring(OLD))
    with pytest.raises(CorruptData):
        open_file(sealed, tmp_path / "x", ring({"new": b"w" * 32}))
    assert not (tmp_path / "x").exists()


@given(data=st.data(), size=st.sampled_from(SIZES))
@settings(deadline=None, max_examples=80)
def test_any_damage_to_a_file_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    folder = tmp_path_factory.mktemp("f")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_files, "CHUNK_BYTES", 64)
        (folder / "plain").write_bytes(bytes(size))
        seal_file(folder / "plain", folder / "sealed", ring(OLD))
        content = bytearray((folder / "sealed").read_bytes())
        match data.draw(st.sampled_from(["flip", "cut", "add", "swap"])):
            case "flip":
                content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[data.draw(st.integers(0, len(content) - 1)) :]
            case "add":
                content += data.draw(st.binary(min_size=1, max_size=200))
            case _:
                head = 8 + 1 + 3 + 16
                content[head : head + 160] = content[head + 80 : head + 160] + content[head : head + 80]
        if bytes(content) == (folder / "sealed").read_bytes():
            return
        (folder / "sealed").write_bytes(content)
        with pytest.raises((CorruptData, InvalidSettings)):
            open_file(folder / "sealed", folder / "again", ring(OLD))
        assert not (folder / "again").exists()
