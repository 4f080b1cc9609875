"""The Redis journal when answers are lost, the server refuses, its data goes back, or its settings do not keep data."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from quantum_db.errors import CorruptData, Fenced, InvalidSettings, Unavailable
from quantum_db.journals.redis import MAX_APPEND, RedisJournal
from quantum_db.journals.redis_scripts import COMPACT, REMEMBERED, STAGING_S
from tests.contract.cutting_proxy import CuttingProxy, Loss, cutting_proxy
from tests.contract.journals import STREAM, RedisPlace, held, numbered, rows
from tests.redis_server import DURABLE, RedisServer, running_redis


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(redis_server.port) as made:
        yield made


@pytest.fixture
def behind(proxy: CuttingProxy, redis_place: RedisPlace) -> Iterator[RedisJournal]:
    """A journal that reaches its server through the proxy."""
    url = f"redis://:{redis_place.server.password}@127.0.0.1:{proxy.port}"
    with closing(RedisJournal(url, name=redis_place.name, timeout_s=0.25)) as journal:
        yield journal


@pytest.fixture
def direct(redis_place: RedisPlace) -> Iterator[RedisJournal]:
    with closing(RedisJournal(redis_place.server.url, name=redis_place.name)) as journal:
        yield journal


# Lost answers


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_an_append_whose_answer_is_lost_is_written_once(
    proxy: CuttingProxy, behind: RedisJournal, direct: RedisJournal, how: Loss
) -> None:
    behind.append(STREAM, numbered(1, 2))
    proxy.lose(1, how)
    assert behind.append(STREAM, numbered(3, 5)) == 5
    assert proxy.lost == 1
    assert held(direct) == rows(1, 5)


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_an_append_that_stays_without_answer_may_be_repeated_by_the_caller(
    proxy: CuttingProxy, behind: RedisJournal, direct: RedisJournal, how: Loss
) -> None:
    proxy.lose(2, how)
    with pytest.raises(Unavailable, match="does not do its work"):
        behind.append(STREAM, numbered(1, 3))
    assert proxy.lost == 2
    assert held(direct) == rows(1, 3), "it was written, but the caller cannot know"
    proxy.lose(1, how)
    assert behind.append(STREAM, numbered(1, 3)) == 3
    assert held(direct) == rows(1, 3)
    assert behind.append(STREAM, numbered(1, 3)) == 6, "a later append of the same records is a new one"


def test_another_append_after_a_lost_one_is_a_new_one(
    proxy: CuttingProxy, behind: RedisJournal, direct: RedisJournal
) -> None:
    proxy.lose(2)
    with pytest.raises(Unavailable):
        behind.append(STREAM, numbered(1, 1))
    assert behind.append(STREAM, numbered(2, 2)) == 2
    assert behind.append(STREAM, numbered(1, 1)) == 3
    assert [record["n"] for _, record in held(direct)] == [1, 2, 1]


def test_a_lost_append_of_a_fenced_writer_is_told_as_written(
    proxy: CuttingProxy, behind: RedisJournal, direct: RedisJournal
) -> None:
    epoch = behind.begin_epoch(STREAM)
    proxy.lose(2)
    with pytest.raises(Unavailable):
        behind.append(STREAM, numbered(1, 1), epoch=epoch)
    direct.begin_epoch(STREAM)
    assert behind.append(STREAM, numbered(1, 1), epoch=epoch) == 1
    with pytest.raises(Fenced):
        behind.append(STREAM, numbered(2, 2), epoch=epoch)
    assert held(direct) == rows(1, 1)


def test_the_other_steps_are_repeated_too(proxy: CuttingProxy, behind: RedisJournal, direct: RedisJournal) -> None:
    proxy.lose(1)
    assert behind.begin_epoch(STREAM) == 1
    behind.append(STREAM, numbered(1, 4), epoch=1)
    for before in range(3):  # the answers about the head, the part of the snapshot, and the compaction itself
        proxy.lose(1, after=before)
        behind.compact(STREAM, 3, [{"s": before}], epoch=1)
        assert held(direct) == [(3, {"s": before}), *rows(4, 4)]
    proxy.lose(1)
    assert held(behind) == held(direct)
    proxy.lose(1)
    assert behind.last(STREAM) == 4
    assert proxy.lost == 6
    assert direct.begin_epoch(STREAM) == 2


def test_connections_that_the_server_closed_are_made_again(redis_server: RedisServer, direct: RedisJournal) -> None:
    with redis_server.client() as client:
        for number in range(1, 4):
            client.client_kill_filter(_type="normal", skipme=True)
            assert direct.append(STREAM, numbered(number, number)) == number
    assert held(direct) == rows(1, 3)


def test_operations_are_remembered_in_bounded_number(redis_place: RedisPlace, direct: RedisJournal) -> None:
    for _ in range(REMEMBERED + 20):
        direct.append(STREAM, [{}])
    with redis_place.server.client() as client:
        assert client.zcard(redis_place.key("operations")) == REMEMBERED
        keys = client.keys(f"{{{redis_place.name}}}*")
    assert len(keys) == 4, "format, head, records, operations"
    assert direct.append(STREAM, [{}]) == REMEMBERED + 21


def test_an_append_of_too_many_records_is_refused(direct: RedisJournal) -> None:
    with pytest.raises(ValueError, match="at most 100,000 records"):
        direct.append(STREAM, [{}] * (MAX_APPEND + 1))
    assert direct.last(STREAM) == 0


def test_parts_of_a_snapshot_that_never_was_do_not_stay(
    redis_place: RedisPlace, proxy: CuttingProxy, behind: RedisJournal
) -> None:
    behind.append(STREAM, numbered(1, 2))
    proxy.lose(2, after=1)
    with pytest.raises(Unavailable):
        behind.compact(STREAM, 1, [{"s": 1}])
    assert held(behind) == rows(1, 2)
    with redis_place.server.client() as client:
        [staged] = client.keys(f"{{{redis_place.name}}}*staging*")
        assert 0 < client.ttl(staged) <= STAGING_S
    behind.compact(STREAM, 1, [{"s": 1}])
    with redis_place.server.client() as client:
        assert client.ttl(redis_place.key("snapshot")) == -1, "it stays"


def test_a_compaction_is_checked_again_when_it_takes_place(redis_place: RedisPlace, direct: RedisJournal) -> None:
    """What was right when it began may be wrong at its last step."""

    class Overtaken(RedisJournal):
        meanwhile: Callable[[], object]

        def _run(self, script: str, *arguments: Any, **keywords: Any) -> Any:
            if script == COMPACT:
                self.meanwhile()
            return super()._run(script, *arguments, **keywords)

    def lose_staged() -> None:
        with redis_place.server.client() as client:
            assert client.delete(*client.keys(f"{{{redis_place.name}}}*staging*")) == 1

    with closing(Overtaken(redis_place.server.url, name=redis_place.name)) as journal:
        epoch = journal.begin_epoch(STREAM)
        journal.append(STREAM, numbered(1, 4), epoch=epoch)
        journal.meanwhile = lose_staged
        with pytest.raises(Unavailable, match="a part of the snapshot of stream 'facts' was lost"):
            journal.compact(STREAM, 2, [{"s": 1}], epoch=epoch)
        journal.meanwhile = lambda: direct.compact(STREAM, 3, [{"s": 3}])
        with pytest.raises(ValueError, match=r"through 2: its last record is 4 and its snapshot .* through 3"):
            journal.compact(STREAM, 2, [{"s": 1}], epoch=epoch)
        journal.meanwhile = lambda: direct.begin_epoch(STREAM)
        with pytest.raises(Fenced, match="is epoch 2 now; epoch 1 may not write"):
            journal.compact(STREAM, 4, [{"s": 4}], epoch=epoch)
        assert held(journal) == held(direct) == [(3, {"s": 3}), *rows(4, 4)]


# Refusals


def test_refusals_of_the_server_are_unavailable_and_pass(tmp_path: Path) -> None:
    (tmp_path / "dump").mkdir()
    with running_redis(*DURABLE, "--dbfilename", "dump", folder=tmp_path) as server, server.client() as client:
        journal = RedisJournal(server.url)
        journal.append(STREAM, numbered(1, 1))

        def refused(word: str) -> None:
            for _ in range(2):
                with pytest.raises(Unavailable, match=word):
                    journal.append(STREAM, numbered(2, 2))
            assert held(journal) == rows(1, 1)

        client.replicaof("127.0.0.1", "1")
        refused("read only replica")
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 1)
        refused("maxmemory")
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 1)
        refused("NOREPLICAS")
        client.config_set("min-replicas-to-write", 0)
        client.config_set("save", "3600 1")
        client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            pass
        refused("MISCONF")
        client.config_set("save", "")
        assert journal.append(STREAM, numbered(2, 2)) == 2
        server.kill()
        with pytest.raises(Unavailable, match=rf"the Redis at redis://127.0.0.1:{server.port}/0 does not do its work"):
            held(journal)
        with pytest.raises(Unavailable):
            RedisJournal(server.url)
        journal.close()


def test_a_server_that_is_loading_is_unavailable(tmp_path: Path) -> None:
    with running_redis(*DURABLE, folder=tmp_path) as server, closing(RedisJournal(server.url)) as journal:
        journal.append(STREAM, numbered(1, 30_000))
        server.kill()
        server.start("--key-load-delay", "-2", wait=False)  # a pause at every second command
        told = ""
        while "loading" not in told:  # at first it does not listen
            with pytest.raises(Unavailable) as error:
                journal.last(STREAM)
            told = error.value.detail
        server.wait_until_it_answers()
        assert journal.last(STREAM) == 30_000


# Lost data


def test_a_server_that_came_back_without_its_data_is_noticed(tmp_path: Path) -> None:
    with running_redis(*DURABLE, folder=tmp_path) as server:
        journal = RedisJournal(server.url)
        epoch = journal.begin_epoch(STREAM)
        journal.append(STREAM, numbered(1, 2), epoch=epoch)
        server.kill()
        shutil.copytree(tmp_path / "appendonlydir", tmp_path / "backup")
        server.start()
        assert journal.append(STREAM, numbered(3, 3), epoch=epoch) == 3
        for older in (tmp_path / "backup", None):
            server.kill()
            shutil.rmtree(tmp_path / "appendonlydir")
            if older:
                older.rename(tmp_path / "appendonlydir")
            server.start()
            for call in (
                lambda: journal.append(STREAM, numbered(4, 4), epoch=epoch),
                lambda: journal.append(STREAM, numbered(4, 4)),
                lambda: journal.begin_epoch(STREAM),
                lambda: held(journal),
            ):
                with pytest.raises(CorruptData, match="it lost its data"):
                    call()
            with closing(RedisJournal(server.url)) as fresh, pytest.raises(CorruptData, match="but was read up to 3"):
                held(fresh, after=3)
        journal.close()


def test_a_journal_that_was_made_anew_is_another_one(redis_place: RedisPlace, direct: RedisJournal) -> None:
    """Also for a stream of which this process has seen nothing yet."""
    with redis_place.server.client() as client:
        client.delete(f"{{{redis_place.name}}}:format")
        for _ in range(2):
            with pytest.raises(CorruptData, match="it lost its data"):
                direct.last("unseen")
            with closing(RedisJournal(redis_place.server.url, name=redis_place.name)) as another:
                assert another.append("unseen", [{}]) > 0


def test_a_key_of_another_kind_is_corrupt_data_and_nothing_is_written(
    redis_place: RedisPlace, direct: RedisJournal
) -> None:
    direct.append(STREAM, numbered(1, 3))
    direct.compact(STREAM, 1, [{"s": 1}])
    before = held(direct)
    with redis_place.server.client() as client:
        for part, call in (
            ("operations", lambda: direct.append(STREAM, numbered(4, 4))),
            ("records", lambda: direct.append(STREAM, numbered(4, 4))),
            ("records", lambda: direct.compact(STREAM, 2, [{"s": 2}])),
            ("head", lambda: direct.last(STREAM)),
        ):
            client.rename(redis_place.key(part), "aside")
            client.set(redis_place.key(part), "a text") if part != "head" else client.lpush(redis_place.key(part), 1)
            with pytest.raises(CorruptData, match="a key of it holds something else"):
                call()
            client.rename("aside", redis_place.key(part))
            assert held(direct) == before


def test_an_append_onto_a_damaged_end_is_refused(redis_place: RedisPlace, direct: RedisJournal) -> None:
    direct.append(STREAM, numbered(1, 2))
    redis_place.remove(2)
    with pytest.raises(CorruptData, match="does not end with record 2"):
        direct.append(STREAM, numbered(3, 3))


def test_another_format_is_refused(redis_place: RedisPlace, direct: RedisJournal) -> None:
    with redis_place.server.client() as client:
        client.set(f"{{{redis_place.name}}}:format", "2:abc")
    with pytest.raises(CorruptData, match="it has format 2; this version reads 1"):
        RedisJournal(redis_place.server.url, name=redis_place.name)


# Settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "has appendonly no, appendfsync everysec, .*set appendonly yes, appendfsync always"),
        (("--appendonly", "yes"), "has appendonly yes, appendfsync everysec"),
        (("--appendfsync", "always"), "has appendonly no, appendfsync always"),
        ((*DURABLE, "--no-appendfsync-on-rewrite", "yes"), "no-appendfsync-on-rewrite yes"),
        ((*DURABLE, "--maxmemory-policy", "allkeys-lru"), "maxmemory-policy allkeys-lru.*set noeviction"),
    ],
)
def test_a_server_that_may_lose_what_it_acknowledged_is_refused(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    with running_redis(*options, folder=tmp_path) as server:
        with pytest.raises(InvalidSettings, match=message):
            RedisJournal(server.url)
        with closing(RedisJournal(server.url, durability="trusted")) as journal:
            assert journal.append(STREAM, numbered(1, 1)) == 1


def test_a_service_without_config_has_to_be_trusted(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        rights = ("~{managed}:*", "+@read", "+@write", "+@scripting", "+info")
        client.execute_command("ACL", "SETUSER", "managed", "on", ">word", *rights)
    url = f"redis://managed:word@127.0.0.1:{redis_server.port}"
    with pytest.raises(InvalidSettings, match=r'does not let its CONFIG be read.*durability "trusted"'):
        RedisJournal(url, name="managed")
    with closing(RedisJournal(url, name="managed", durability="trusted")) as journal:
        assert journal.append(STREAM, numbered(1, 2), epoch=journal.begin_epoch(STREAM)) == 2
        journal.compact(STREAM, 1, [{"s": 1}])
        assert held(journal) == [(1, {"s": 1}), *rows(2, 2)]
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "managed", "+config|get")
    RedisJournal(url, name="managed").close()


@pytest.mark.parametrize("name", ["", "a}b", "a b", "{x}"])
def test_a_name_that_would_break_the_hash_tag_is_refused(redis_server: RedisServer, name: str) -> None:
    with pytest.raises(InvalidSettings, match="the name of a journal"):
        RedisJournal(redis_server.url, name=name)


def test_no_password_is_told(redis_server: RedisServer) -> None:
    secret, port = "s3cret%2Fword", redis_server.port
    for url, kind in (
        (f"redis://:{secret}@127.0.0.1:{port}", InvalidSettings),
        (f"redis://nobody:{secret}@127.0.0.1:{port}", InvalidSettings),
        (f"redis://:{secret}@127.0.0.1:1", Unavailable),
        (f"redis://:{secret}@127.0.0.1:{port}?unheard=of", InvalidSettings),
        (f"redis://:{secret}/x@127.0.0.1:{port}", InvalidSettings),
        (f"redis://:{secret}@127.0.0.1:{port}x", InvalidSettings),
    ):
        with pytest.raises(kind) as error:
            RedisJournal(url)
        told = "".join(traceback.format_exception(error.value)) + repr(error.value)
        assert "s3cret" not in told
        assert error.value.__cause__ is None, "what redis-py says might have it"
    with closing(RedisJournal(redis_server.url, name="told")) as journal:
        assert redis_server.password not in repr(journal)
        assert repr(journal) == f"RedisJournal(redis://127.0.0.1:{port}/0 told)"
