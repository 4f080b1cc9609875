"""The SQLite journal answers as a list would, whatever is done to it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from quantum_db.journals.sqlite import SqliteJournal
from tests.journal_model import JournalMachine

WITH_DISK = settings(max_examples=25, stateful_step_count=25, deadline=None)


class SqliteMachine(JournalMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()

    def open(self) -> SqliteJournal:
        return SqliteJournal(Path(self._folder.name) / "journal.sqlite")

    def teardown(self) -> None:
        super().teardown()
        self._folder.cleanup()


def test_the_sqlite_journal_answers_as_a_list_would() -> None:
    run_state_machine_as_test(SqliteMachine, settings=WITH_DISK)


def test_the_model_finds_a_journal_that_forgets() -> None:
    class Forgetful(SqliteJournal):
        def append(self, stream, records, *, epoch=None):  # type: ignore[no-untyped-def]
            return super().append(stream, records[:2], epoch=epoch) + max(0, len(records) - 2)

    class ForgetfulMachine(SqliteMachine):
        def open(self) -> SqliteJournal:
            return Forgetful(Path(self._folder.name) / "journal.sqlite")

    with pytest.raises(AssertionError):
        run_state_machine_as_test(ForgetfulMachine, settings=settings(WITH_DISK, phases=[Phase.generate]))
