"""Which journal a URL opens, and the error that fences a writer."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path

import pytest

from quantum_db.errors import Fenced, InvalidSettings, Unavailable
from quantum_db.journals.encrypted import EncryptedJournal
from quantum_db.journals.open import open_journal
from quantum_db.journals.sqlite import SqliteJournal


def test_a_sqlite_url_opens_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, path in (
        (f"sqlite:///{tmp_path}/deep/a b%41?.sqlite", tmp_path / "deep" / "a b%41?.sqlite"),
        ("sqlite:///near.sqlite", tmp_path / "near.sqlite"),
    ):
        with closing(open_journal(url)) as journal:
            assert isinstance(journal, EncryptedJournal)
            assert isinstance(journal.inner, SqliteJournal)
            assert journal.append("x", [{}]) == 1
        assert path.is_file()


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "journal.sqlite", "postgresql://host/x", "unix:///s", "REDIS://host"]
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="begins with sqlite:/// and a path, or with redis://"):
        open_journal(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://host?durability=maybe", 'durability is "checked" or "trusted"'),
        ("redis://host?name=a%20b", "the name of a journal"),
        ("redis://host?unheard=of", "unknown option"),
        ("redis://:pass/word@host", "the Redis URL is not valid"),
    ],
)
def test_a_redis_url_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message) as error:
        open_journal(url)
    assert "pass" not in error.value.detail.replace("password", "")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_redis_that_is_not_there_is_unavailable(scheme: str) -> None:
    with pytest.raises(Unavailable, match=r"the Redis at redis://127\.0\.0\.1:1/2 does not do its work"):
        open_journal(f"{scheme}://:secret@127.0.0.1:1/2?name=jobs&durability=trusted")


def test_fenced_pickles_and_is_a_problem() -> None:
    error = pickle.loads(pickle.dumps(Fenced("gone", retry_after_s=1.0)))
    assert isinstance(error, Fenced)
    assert (error.detail, error.retry_after_s) == ("gone", 1.0)
    assert error.problem() == {
        "type": "urn:quantum-db:problem:fenced",
        "title": "Another process has taken over",
        "status": 503,
        "detail": "gone",
    }
