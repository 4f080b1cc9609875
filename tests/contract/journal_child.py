"""A process that writes to a journal until it is killed: ``python -m tests.contract.journal_child URL``.

Batch b has ``size(b)`` records; every tenth is followed by a compaction through it. What is acknowledged is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from quantum_db.journals.open import open_journal
from quantum_db.ports import Journal

STREAM = "facts"
PADDING = "x" * 300


def size(batch: int) -> int:
    return 1 + batch * 7 % 20


def batch_records(batch: int) -> list[dict[str, Any]]:
    return [{"batch": batch, "part": part, "padding": PADDING} for part in range(size(batch))]


def whole_batches(found: Iterable[tuple[int, dict[str, Any]]]) -> tuple[int, int]:
    """Return how many batches a stream holds and its last number; fail unless it is whole batches in order."""
    number = batches = part = 0
    for at, record in found:
        if "batches" in record:
            assert number == 0, "one snapshot, at the start"
            number, batches = at, record["batches"]
            assert number == sum(map(size, range(batches))), f"{batches} batches do not end at {number}"
            continue
        assert at == number + 1, f"{number} is followed by {at}"
        assert record == batch_records(batches)[part], f"record {at} is another one"
        number, part = at, part + 1
        if part == size(batches):
            batches, part = batches + 1, 0
    assert part == 0, f"batch {batches} has {part} of {size(batches)} records"
    return batches, number


def write(journal: Journal) -> None:
    epoch = journal.begin_epoch(STREAM)
    batch, _ = whole_batches(journal.read(STREAM))
    while True:
        number = journal.append(STREAM, batch_records(batch), epoch=epoch)
        batch += 1
        print(batch, flush=True)
        if batch % 10 == 0:
            journal.compact(STREAM, number, [{"batches": batch}], epoch=epoch)


if __name__ == "__main__":
    write(open_journal(sys.argv[1]))
