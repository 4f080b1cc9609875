"""The Redis journal on a real cluster of two nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis

from cluster.runtime import free_port
from quantum_db.journals.redis import RedisJournal
from tests.contract.journals import STREAM, held, numbered, rows
from tests.redis_server import DURABLE, RedisServer


class ClusterNode(RedisServer):
    def __init__(self, folder: Path) -> None:
        self.bus_port = free_port()
        options = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port))
        super().__init__(*DURABLE, *options, folder=folder, password="of all nodes")


@contextmanager
def clustered(folder: Path) -> Iterator[ClusterNode]:
    node = ClusterNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def is_whole(client: redis.Redis) -> bool:
    found = client.execute_command("CLUSTER INFO")
    return (found["cluster_state"], found["cluster_slots_ok"]) == ("ok", "16384")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slot_of(client: redis.Redis, name: str) -> int:
    return int(client.execute_command("CLUSTER", "KEYSLOT", f"{{{name}}}"))


def name_in(client: redis.Redis, slots: tuple[int, int]) -> str:
    return next(name for name in map(str, range(1000)) if slots[0] <= slot_of(client, name) <= slots[1])


def move_slot(name: str, source: redis.Redis, target: redis.Redis, target_server: RedisServer) -> None:
    slot = slot_of(source, name)
    ids = [client.execute_command("CLUSTER", "MYID").decode() for client in (source, target)]
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
    command = ("127.0.0.1", target_server.port, "", 0, 5000, "AUTH", target_server.password, "KEYS")
    source.execute_command("MIGRATE", *command, *keys)
    for client in (target, source):
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])


def test_a_journal_lives_on_its_node_of_a_cluster(tmp_path: Path) -> None:
    """Two nodes with half of the slots each; the journal is reached through either, and moves with its slot."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with clustered(folders[0]) as one, clustered(folders[1]) as two, one.client() as first, two.client() as second:
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port, two.bus_port)
        wait_until(lambda: all(is_whole(client) for client in (first, second)))
        names = {client: name_in(client, slots) for client, slots in ((first, (0, 8191)), (second, (8192, 16383)))}
        for name in names.values():
            journals = [RedisJournal(server.url, name=name) for server in (one, two)]
            epoch = journals[0].begin_epoch(STREAM)
            assert journals[0].append(STREAM, numbered(1, 3), epoch=epoch) == 3
            journals[1].compact(STREAM, 1, [{"s": 1}])
            assert held(journals[0]) == held(journals[1]) == [(1, {"s": 1}), *rows(2, 3)]
        move_slot(names[second], second, first, one)
        for journal in journals:
            last = journal.last(STREAM)
            assert journal.append(STREAM, numbered(last + 1, last + 1), epoch=epoch) == last + 1
            journal.close()
        with closing(RedisJournal(two.url, name=names[second])) as journal:
            assert held(journal, after=1) == rows(2, 5)
