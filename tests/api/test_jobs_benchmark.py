"""The benchmark of the job pool counts what it says it counts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.jobs import FULL, QUICK, THEMES
from benchmarks.jobs_faults import fair_usd, fault_table
from benchmarks.jobs_reuse import _load, append_s, grow_journal
from benchmarks.jobs_throughput import Rates, pieces_in, rates, throughput_table
from benchmarks.naive_jobs import FaultRun, NaiveRun, Work, overlap_work, run_serial
from benchmarks.pooled_jobs import by_callers, piece, table
from quantum_db.errors import JobFailed
from quantum_db.ionq.pricing import BRAKET_FORTE
from tests.api.emulator_server import emulator_thread


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [[1, "x"], [2, "y"]]) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y |"


def test_pieces_are_taken_once_by_no_more_than_the_callers() -> None:
    lock, at_once, most = threading.Lock(), 0, 0
    gate = threading.Barrier(4, timeout=30.0)

    def ask(place: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        gate.wait()
        with lock:
            at_once -= 1
        return place * place

    wall_s, answers = by_callers(4, ask, 20)
    assert [answer for _, answer in answers] == [place * place for place in range(20)]
    assert most == 4
    assert 0.0 < max(latency_s for latency_s, _ in answers) <= wall_s


def test_ratios_are_against_one_circuit_a_job() -> None:
    found = [
        Rates("naive, serial", 8, 8, 8.0, 1.0),
        Rates("pool, one circuit a job", 80, 80, 10.0, 8.0),
        Rates("pool", 128, 8, 4.0, 32.0),
    ]
    rows = cells(throughput_table(found))[2:]
    assert [row[-2:] for row in rows] == [["1.0", "0.12"], ["1.0", "1.00"], ["16.0", "4.00"]]


@pytest.mark.parametrize(("at_once", "delay_s", "pieces"), [(1, 0.0, 128), (1, 1.0, 4), (8, 1.0, 32), (64, 2.0, 128)])
def test_slow_clients_get_fewer_circuits(at_once: int, delay_s: float, pieces: int) -> None:
    assert pieces_in(128, at_once, delay_s) == pieces


def test_a_client_that_returns_wrong_counts_is_caught() -> None:
    with emulator_thread() as running:

        def swapped(work: Work) -> NaiveRun:
            found = run_serial(running, work)
            return replace(found, counts=found.counts[::-1])

        assert rates("right", lambda work: run_serial(running, work), 4, 1).jobs == 4
        with pytest.raises(JobFailed, match="do not come from its distribution"):
            rates("wrong", swapped, 4, 1)


def test_fair_prices_are_those_of_each_circuit_paid_once() -> None:
    work = overlap_work(5, shots=1_000)
    gates = (
        len(work.batch.template.structure) - work.batch.template.two_qubit_gates,
        work.batch.template.two_qubit_gates,
    )
    assert fair_usd(work, alone=False) == pytest.approx(5 * BRAKET_FORTE.cost_usd(1, 1_000, *gates))
    alone = sum(BRAKET_FORTE.cost_usd(1, 1_000 + place, *gates) for place in range(5))
    assert fair_usd(work, alone=True) == pytest.approx(alone)
    assert len(piece(work, 4)) == 1
    assert cells(fault_table({"x": FaultRun(5, 6, 1, 0, 120.0, 100.0, 1.0)}))[2][6] == "1.200"


def test_the_journal_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    found = grow_journal(path, 1_500)
    assert found.results == 1_500
    assert 100 * 1_500 < found.bytes < 1_000 * 1_500
    assert min(found.load_s, found.compact_s, found.compacted_load_s) > 0.0
    with pytest.raises(RuntimeError, match="1500 of 1501 results were read back"):
        asyncio.run(_load(path, 1_501, compact=False))
    assert append_s(tmp_path / "appends.sqlite", 10) > 0.0


def test_each_theme_has_a_smaller_scale() -> None:
    assert set(THEMES) >= {"throughput", "faults", "budget", "dead-provider", "kills", "fairness", "overhead", "reuse"}
    assert QUICK.pieces < FULL.pieces
    assert QUICK.kills < FULL.kills
