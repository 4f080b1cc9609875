"""The Redis journal answers as a list would, whatever is done to it."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from quantum_db.journals.redis import RedisJournal
from tests.journal_model import JournalMachine
from tests.redis_server import RedisServer


def test_the_redis_journal_answers_as_a_list_would(redis_server: RedisServer) -> None:
    names = (f"model-{n}" for n in itertools.count())

    class RedisMachine(JournalMachine):
        def __init__(self) -> None:
            super().__init__()
            self._name = next(names)

        def open(self) -> RedisJournal:
            return RedisJournal(redis_server.url, name=self._name)

    run_state_machine_as_test(RedisMachine, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))
