"""When the store is flushed, and when the commit journal is compacted: what keeps both from growing. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from quantum_db.commits.ledger import CommitLedger, flushed_record
from quantum_db.commits.steps import Compact, Flush, Record

MIN_RECORDS: Final = 2_000
"""Records after a snapshot before the next one is worth while; it also waits until they outnumber what is live."""
UNFLUSHED: Final = 8_192
"""Changes of entities that are kept in the journal for the store, before it is flushed."""
UNFLUSHED_COMMITS: Final = 1_000
"""Likewise, transactions."""


class Upkeep:
    """Decides by what the ledger says."""

    def __init__(self, ledger: CommitLedger, work: int, min_records: int, unflushed_commits: int) -> None:
        """Nothing is under way. ``work`` is the number under which the protocol knows a flush."""
        self._ledger = ledger
        self._work = work
        self._min_records = min_records
        self._unflushed_commits = unflushed_commits
        self._flushing: int | None = None

    def flush(self) -> list[Flush]:
        """Have the store flushed, if it is due, so that the journal need not keep what has been applied."""
        few = self._ledger.unflushed() < UNFLUSHED and len(self._ledger.settled) < self._unflushed_commits
        if few or self._flushing is not None:
            return []
        self._flushing = self._ledger.number
        return [Flush(self._work)]

    def flushed(self) -> Record:
        """Return what is to be written down once the store has been flushed."""
        assert self._flushing is not None
        return Record(self._work, flushed_record(self._flushing))

    def flush_ended(self) -> None:
        """Take in that a flush is written down, or failed: the next receipt may ask for another."""
        self._flushing = None

    def compact(self, in_flight: Iterable[int], now_s: float) -> list[Compact]:
        """Replace records by a snapshot, if it is due, up to where all of them have been taken in.

        Args:
            in_flight: the number of the journal's last record when each record was sent that is being written.
        """
        if self._ledger.records_since_snapshot <= max(self._min_records, 2 * self._ledger.size()):
            return []
        through = min([self._ledger.number, *in_flight])
        if through == 0:
            return []
        self._ledger.records_since_snapshot = 0
        return [Compact(through, self._ledger.snapshot(now_s))]
