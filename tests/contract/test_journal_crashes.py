"""Journals whose writer or server is killed with SIGKILL at random moments."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from quantum_db.errors import Fenced, Unavailable
from quantum_db.journals.open import open_journal
from tests.contract.journal_child import STREAM, batch_records, size, whole_batches
from tests.contract.journals import Place, opened
from tests.redis_server import DURABLE, running_redis

ROOT = Path(__file__).parents[2]


def killed_writer(url: str, after_s: float) -> int:
    """Let a process write for so long after its first append, and kill it; return the batches it had acknowledged."""
    command = [sys.executable, "-m", "tests.contract.journal_child", url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            time.sleep(after_s)
        finally:
            process.kill()
        lines += process.stdout.readlines()
    return int([line for line in lines if line.endswith("\n")][-1])


def test_a_killed_writer_has_lost_nothing_and_left_no_half_append(place: Place) -> None:
    chance = random.Random(5)
    for _ in range(3):
        acknowledged = killed_writer(place.url, chance.uniform(0.0, 0.25))
        with opened(place) as journal:
            batches, number = whole_batches(journal.read(STREAM))
            assert acknowledged <= batches <= acknowledged + 1
            assert journal.last(STREAM) == number
    with opened(place) as journal:
        assert journal.begin_epoch(STREAM) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[:-1], "has 7 of 8 records"),
        (lambda found: found[:1] + found[2:], "1 is followed by 3"),
        (lambda found: [*found, found[-1]], "9 is followed by 9"),
        (lambda found: [found[0], (2, found[0][1]), *found[2:]], "record 2 is another one"),
        (lambda found: [(3, {"batches": 1}), *found], "1 batches do not end at 3"),
    ],
)
def test_the_check_of_whole_batches_finds_what_it_should(
    change: Callable[[list[tuple[int, object]]], list[tuple[int, object]]], message: str
) -> None:
    found = list(enumerate([*batch_records(0), *batch_records(1)], 1))
    assert whole_batches(found) == (2, 9)
    with pytest.raises(AssertionError, match=message):
        whole_batches(change(found))


def test_a_writer_that_is_replaced_while_it_writes_is_fenced(place: Place) -> None:
    with opened(place) as old, opened(place) as new:
        epoch, failed = old.begin_epoch(STREAM), []
        started = threading.Event()

        def write() -> None:
            try:
                for batch in range(100_000):
                    old.append(STREAM, batch_records(batch), epoch=epoch)
                    started.set()
            except Fenced as error:
                failed.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        assert started.wait(10.0)
        mine = new.begin_epoch(STREAM)
        before = new.last(STREAM)
        thread.join(10.0)
        assert [type(error) for error in failed] == [Fenced]
        assert new.last(STREAM) == before, "nothing came in after the new epoch had begun"
        batches, _ = whole_batches(new.read(STREAM))
        assert new.append(STREAM, batch_records(batches), epoch=mine) == before + size(batches)


def test_a_killed_redis_has_lost_nothing_and_an_append_may_be_repeated(tmp_path: Path) -> None:
    """The server dies while a thread appends; it does the append that failed once more when the server is back."""
    chance = random.Random(7)
    acknowledged = 0

    def write() -> None:
        nonlocal acknowledged
        with suppress(Unavailable):
            while True:
                journal.append(STREAM, batch_records(acknowledged))
                acknowledged += 1

    with running_redis(*DURABLE, folder=tmp_path) as server:
        journal = open_journal(server.url)
        for _ in range(3):
            thread = threading.Thread(target=write)
            thread.start()
            time.sleep(chance.uniform(0.05, 0.2))
            server.kill()
            thread.join(10.0)
            assert not thread.is_alive()
            server.start()
            with closing(open_journal(server.url)) as another:
                batches, _ = whole_batches(another.read(STREAM))
            assert acknowledged <= batches <= acknowledged + 1
            journal.append(STREAM, batch_records(acknowledged))
            acknowledged += 1
            assert whole_batches(journal.read(STREAM))[0] == acknowledged
        journal.close()
    assert acknowledged > 20
