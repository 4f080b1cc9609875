"""API keys: their form, what is kept of them, who may do what with them, and how replicas follow."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.access.bodies import KeyBody
from quantum_db.access.following import STALE_S, KeyFollower
from quantum_db.access.keys import Key, KeyTable, Token, given_token, new_token, parsed
from quantum_db.access.ports import KeyNews
from quantum_db.access.principal import Principal, Role
from quantum_db.access.registry import STREAM, KeyRegistry
from quantum_db.change_feed import Cursor
from quantum_db.errors import Conflict, CorruptData, Forbidden, InvalidSettings, NotFound, Unavailable
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.sqlite import SqliteJournal
from tests.unit.fakes import FakeClock

ROOT = Principal("key:root", "default", Role.ADMIN, cluster=True)
ADMIN_A = Principal("key:a", "a", Role.ADMIN)


def key_of(token: Token, **changes: Any) -> Key:
    own = {"id": token.id, "name": "n", "tenant": "a", "role": Role.READER, "digest": token.digest, "created_at_s": 0.0}
    return Key(**{**own, **changes})


class Book:
    """A registry over a real journal, which can be opened again."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, FakeClock()

    async def open(self) -> Book:
        self.keeper = Keeper(KeyTable(), SqliteJournal(self.path), STREAM, lambda error: None)
        await self.keeper.load()
        self.keys = KeyRegistry(self.keeper, self.clock, secrets.token_bytes)
        return self

    async def made(self, by: Principal = ROOT, **body: Any) -> tuple[Token, dict[str, Any]]:
        view = await self.keys.create(by, KeyBody(**{"name": "k", "role": "reader", **body}))
        token = parsed(view["key"])
        assert token is not None
        return token, view

    def owner(self, token: Token) -> Key | None:
        return self.keys.table.owner(token, self.clock.now_s())

    def was_good(self, token: Token) -> bool:
        return self.keys.table.was_good(token)


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    book = await Book(tmp_path / "keys.sqlite").open()
    yield book
    await book.keeper.close()


def test_a_key_has_256_bits_and_is_read_back() -> None:
    token = new_token(secrets.token_bytes)
    assert len(bytes.fromhex(token.secret)) * 8 == 256
    assert parsed(str(token)) == token
    assert new_token(secrets.token_bytes) != token


@given(st.text(max_size=90))
def test_what_is_no_key_is_none(text: str) -> None:
    found = parsed(text)
    assert found is None or str(found) == text


def test_the_secret_is_in_nothing_that_is_kept_shown_or_printed() -> None:
    token = new_token(secrets.token_bytes)
    key = key_of(token)
    for text in (repr(token), repr(key), json.dumps(key.record()), json.dumps(key.view(0.0))):
        assert token.secret not in text
    assert token.digest not in json.dumps(key.view(0.0))


@pytest.mark.parametrize("text", ["", "secret", "qdb_000000000000_" + "0" * 64, "qdb_000000000000_" + "0123" * 16])
def test_a_chosen_key_must_have_the_form_and_be_random(text: str) -> None:
    with pytest.raises(InvalidSettings) as told:
        given_token(text)
    assert not text or text not in told.value.detail


def test_a_random_key_is_taken() -> None:
    for _ in range(1_000):
        given_token(str(new_token(secrets.token_bytes)))


def test_only_the_right_secret_of_a_good_key_is_let_in() -> None:
    token, other = new_token(secrets.token_bytes), new_token(secrets.token_bytes)
    table = KeyTable()
    table.put(key_of(token, expires_at_s=10.0))
    assert table.owner(token, 9.9) is not None
    assert table.owner(token, 10.0) is None, "expired"
    assert table.owner(Token(token.id, other.secret), 0.0) is None
    assert table.owner(Token(other.id, token.secret), 0.0) is None
    table.put(key_of(token, revoked_at_s=5.0))
    assert table.owner(token, 9.0) is None, "revoked"


def test_a_secret_that_was_once_right_is_told_from_a_guess() -> None:
    token, other = new_token(secrets.token_bytes), new_token(secrets.token_bytes)
    table = KeyTable()
    for key in (key_of(token, revoked_at_s=5.0), key_of(token).rotated(other.digest, 0.0)):
        table.put(key)
        assert table.owner(token, 9.0) is None
        assert table.was_good(token)
    for guess in (Token(token.id, "0" * 64), Token(other.id, token.secret)):
        assert not table.was_good(guess)


def test_a_rotated_key_has_two_secrets_for_a_while_and_never_three() -> None:
    tokens = [new_token(secrets.token_bytes, "0" * 12) for _ in range(3)]
    table = KeyTable()
    table.put(key_of(tokens[0]).rotated(tokens[1].digest, 5.0))
    assert [table.owner(token, 4.9) is not None for token in tokens] == [True, True, False]
    assert [table.owner(token, 5.0) is not None for token in tokens] == [False, True, False]
    table.put(key_of(tokens[0]).rotated(tokens[1].digest, 5.0).rotated(tokens[2].digest, 9.0))
    assert [table.owner(token, 1.0) is not None for token in tokens] == [False, True, True]


@given(
    st.sampled_from(Role),
    st.booleans(),
    st.none() | st.frozensets(st.sampled_from(["query", "insert"])),
    st.none() | st.floats(0, 1e9),
    st.none() | st.floats(0, 1e9),
)
def test_a_key_is_read_back_from_its_record(
    role: Role, cluster: bool, actions: frozenset[str] | None, expires: float | None, revoked: float | None
) -> None:
    token = new_token(secrets.token_bytes)
    key = key_of(token, role=role, cluster=cluster, actions=actions, expires_at_s=expires, revoked_at_s=revoked)
    table = KeyTable()
    table.apply(1, json.loads(json.dumps({"key": key.record()})))
    assert table.all() == (key,)
    again = KeyTable()
    for record in table.snapshot():
        again.apply(2, record)
    again.check()
    assert again.all() == (key,)


@pytest.mark.parametrize("record", [{}, {"key": {}}, {"key": {"id": "x"}}, {"key": 7}, {"key": {"role": "king"}}])
def test_a_record_that_is_none_is_told(record: dict[str, Any]) -> None:
    with pytest.raises(CorruptData):
        KeyTable().apply(1, record)


RIGHTS = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(Role),
    st.booleans(),
    st.none() | st.frozensets(st.sampled_from(["query", "insert", "fetch"]), min_size=1),
)


@given(RIGHTS, RIGHTS, RIGHTS)
def test_rights_that_are_handed_on_never_grow(first: Any, second: Any, third: Any) -> None:
    def principal(rights: Any) -> Principal:
        tenant, role, cluster, actions = rights
        return Principal("p", tenant, role, cluster, actions)

    assert principal(first).covers(*first)
    if principal(first).covers(*second) and principal(second).covers(*third):
        assert principal(first).covers(*third)


async def test_keys_outlive_their_keeper(book: Book) -> None:
    token, _ = await book.made(tenant="a")
    gone, view = await book.made(tenant="a")
    await book.keys.revoke(ROOT, view["id"])
    rotated = parsed((await book.keys.rotate(ROOT, token.id, 0.0))["key"])
    await book.keeper.close()
    await book.open()
    assert rotated is not None
    assert book.owner(rotated) is not None
    assert book.owner(token) is None
    assert book.owner(gone) is None


async def test_an_administrator_sees_and_touches_only_his_tenants_keys(book: Book) -> None:
    await book.made(tenant="a")
    _, theirs = await book.made(tenant="b")
    _, high = await book.made(tenant="a", cluster=True)
    assert [key["tenant"] for key in (await book.keys.list(ADMIN_A))["keys"]] == ["a"]
    assert len((await book.keys.list(ROOT))["keys"]) == 3
    absent: set[str] = set()
    for hidden in (theirs["id"], high["id"], "0" * 12):
        for call in (book.keys.rotate(ADMIN_A, hidden, 0.0), book.keys.revoke(ADMIN_A, hidden)):
            with pytest.raises(NotFound) as told:
                await call
            absent.add(told.value.detail.replace(hidden, "ID"))
    assert len(absent) == 1, "another tenant's key is told like one that is not there"


@pytest.mark.parametrize("body", [{"tenant": "b"}, {"cluster": True}, {"role": "admin", "tenant": "b"}])
async def test_nobody_makes_a_key_that_may_do_more(book: Book, body: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        await book.made(ADMIN_A, **body)
    narrow = Principal("key:n", "a", Role.ADMIN, actions=frozenset({"keys.create", "keys.rotate", "keys.revoke"}))
    _, wide = await book.made(ADMIN_A, role="admin")
    for call in (book.made(narrow), book.keys.rotate(narrow, wide["id"], 0.0), book.keys.revoke(narrow, wide["id"])):
        with pytest.raises(Forbidden):
            await call
    await book.made(narrow, role="admin", actions=["keys.create"])


async def test_the_first_administrator_is_made_once_and_the_last_one_stays(book: Book) -> None:
    first, second, chosen = (new_token(secrets.token_bytes) for _ in range(3))
    assert await book.keys.ensure_admin(first.id, first.digest, given=False)
    assert not await book.keys.ensure_admin(second.id, second.digest, given=False)
    with pytest.raises(Conflict, match="last administrator"):
        await book.keys.revoke(ROOT, first.id)
    assert await book.keys.ensure_admin(chosen.id, chosen.digest, given=True)
    await book.keys.revoke(ROOT, first.id)
    assert not await book.keys.ensure_admin(first.id, first.digest, given=True), "a revoked key does not come back"
    assert book.owner(first) is None
    with pytest.raises(Conflict, match="revoked or expired"):
        await book.keys.rotate(ROOT, first.id, 0.0)


async def test_a_revocation_is_answered_once_every_replica_goes_by_it(book: Book) -> None:
    token, view = await book.made()
    followers = [KeyFollower(book.keys, name, book.clock) for name in ("r1", "r2")]
    for follower in followers:
        await follower.step()
        assert follower.owner(token) is not None
    following = [asyncio.create_task(follower.run()) for follower in followers]
    await asyncio.sleep(0)
    assert (await book.keys.revoke(ROOT, view["id"]))["everywhere"] is True
    assert [follower.owner(token) for follower in followers] == [None, None]
    for task in following:
        task.cancel()


async def test_a_replica_that_does_not_confirm_is_told_of(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantum_db.access.registry.SETTLE_S", 0.02)
    token, view = await book.made()
    follower = KeyFollower(book.keys, "cut off", book.clock)
    await follower.step()
    assert (await book.keys.revoke(ROOT, view["id"]))["everywhere"] is False
    assert follower.owner(token) is not None, "it has not heard of it"
    book.clock.time_s += STALE_S + 1
    with pytest.raises(Unavailable):
        follower.owner(token)


async def test_a_follower_takes_in_what_it_missed_after_a_restart(book: Book) -> None:
    token, view = await book.made()
    follower = KeyFollower(book.keys, "r1", book.clock)
    await follower.step()
    await book.keeper.close()
    await book.open()
    assert (await book.keys.revoke(ROOT, view["id"]))["everywhere"] is False, "nobody knows yet who follows"
    follower._source = book.keys
    await follower.step()
    assert follower.owner(token) is None


async def test_a_copy_of_which_nothing_is_known_lets_nobody_in() -> None:
    class Silent:
        async def news(self, follower: str, after: Cursor | None, timeout_s: float) -> KeyNews:
            raise Unavailable("gone")

    follower = KeyFollower(Silent(), "r1", FakeClock())
    with pytest.raises(Unavailable):
        follower.owner(new_token(secrets.token_bytes))
