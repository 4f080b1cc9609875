"""The ledger: what its records mean, twice written or not, and that a snapshot says the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import CorruptData
from quantum_db.jobs.budget import Account, Allowance, Budgets, Charge
from quantum_db.jobs.ledger import DAY_S, Ledger, OpenSubmission, Retention

NOW_S = 1_795_600_000.0
RETENTION = Retention(results=5, jobs=2, kept_s=DAY_S)


def ledger(retention: Retention = RETENTION) -> Ledger:
    return Ledger(Budgets(lambda tenant: Allowance()), retention)


def intent(key: str, *digests: str) -> dict[str, object]:
    charge = Charge(Account("t", "2026-11-25", "b"), 1_000, 100, len(digests))
    open_ = OpenSubmission(key, "b", 100, (1,) * len(digests), digests, {f"c-{key}": charge}, NOW_S)
    return {"t": "intent", "key": key, **open_.intent()}


def done(key: str, count: int) -> dict[str, object]:
    counts = [{"0": 60, "1": 40}] * count
    paid = {f"c-{key}": 900}
    return {
        "t": "done",
        "key": key,
        "counts": counts,
        "provenance": "hardware",
        "job_id": "j",
        "at_s": NOW_S,
        "micro_usd": paid,
    }


def state(found: Ledger) -> object:
    kept = {digest: found.kept(digest, NOW_S) for digest in "abcdefgh"}
    return found.open, found.jobs, kept, found.budgets.accounts()


RECORDS = st.lists(
    st.one_of(
        st.builds(intent, st.sampled_from("12"), st.sampled_from("abcd"), st.sampled_from("efgh")),
        st.builds(done, st.sampled_from("12"), st.just(2)),
        st.builds(lambda key: {"t": "accepted", "key": key, "job_id": "j"}, st.sampled_from("12")),
        st.builds(lambda key: {"t": "failed", "key": key, "slug": "x", "detail": "y"}, st.sampled_from("12")),
    ),
    max_size=20,
)


@given(RECORDS)
def test_a_snapshot_gives_the_same_ledger(records: list[dict[str, object]]) -> None:
    first, second = ledger(), ledger()
    for number, record in enumerate(records, start=1):
        first.apply(number, record)
    for record in first.snapshot():
        second.apply(len(records), record)
    assert state(second) == state(first)
    first.budgets.validate()
    second.budgets.validate()


@given(RECORDS, st.data())
def test_an_end_that_was_written_twice_counts_once(records: list[dict[str, object]], data: st.DataObject) -> None:
    first, second = ledger(), ledger()
    for record in records:
        first.apply(1, record)
        second.apply(1, record)
        if record["t"] != "intent" and data.draw(st.booleans()):
            second.apply(1, record)
    assert state(second) == state(first)


def test_old_and_surplus_things_are_forgotten_and_open_ones_never() -> None:
    found = ledger()
    found.apply(1, intent("1", *"abcdefgh"))
    found.apply(2, done("1", 8))
    assert [digest for digest in "abcdefgh" if found.kept(digest, NOW_S)] == list("defgh"), "five are kept"
    assert found.kept("h", NOW_S + DAY_S + 1.0) is None
    found.apply(3, intent("2", "z"))
    found.forget_old(NOW_S + 100 * DAY_S)
    assert list(found.open) == ["2"]
    assert found.size() == 1


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"t": "unheard of"},
        {"t": "intent", "key": "k"},
        {"t": "account", "tenant": "t"},
        {**done("1", 1), "counts": []},
    ],
)
def test_what_is_no_record_is_told_by_its_number(record: dict[str, object]) -> None:
    found = ledger()
    found.apply(1, intent("1", "a"))
    with pytest.raises(CorruptData, match="record 7 of the job journal"):
        found.apply(7, record)
