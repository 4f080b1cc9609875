"""The capacity model's arithmetic, by hand; what it was made from is measured by ``benchmarks.capacity_check``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.capacity import BUSY, Load, job_usd, main, plan, processes, read_costs, use_of

COSTS = {
    "classical, copy": {"replica": 2.0},
    "classical, store": {"replica": 1.0, "store": 1.0},
    "refined, copy": {"replica": 4.0},
    "refined, store": {"replica": 3.0, "store": 1.0},
    "write": {"replica": 1.0, "store": 3.0},
    "provider": {"replica": 3.0, "pool": 2.0, "worker": 6.0},
}


def test_work_adds_up_by_part() -> None:
    used = use_of(COSTS, {"classical, store": 100.0, "write": 10.0, "provider": 0.0})
    assert used == pytest.approx({"replica": 0.11, "store": 0.13})


def test_a_process_is_busy_for_a_share_of_its_time_at_most() -> None:
    assert [processes(cores) for cores in (0.0, BUSY, BUSY + 0.01, 6.0)] == [1, 1, 2, 10]


def test_replicas_read_their_copies_only_where_nothing_is_written() -> None:
    read_only = plan(Load(classical=600.0), COSTS)
    assert (read_only.replicas, read_only.store, read_only.qdrant_nodes) == (2, "embedded", 0)
    written = plan(Load(classical=600.0, writes=10.0), COSTS)
    assert (written.store, written.qdrant_nodes) == ("Qdrant server", 2), "0.63 cores are too much for one process"


def test_what_does_not_fit_into_memory_is_spread() -> None:
    large = plan(Load(classical=1.0, vectors=50e6, dimension=384, payload_bytes=500.0), COSTS)
    # 50e6 * (384 * 4 * 1.5 + 500) bytes are 140.2 GB, and 22.4 GB of a node are for the store
    assert large.qdrant_nodes == 7


def test_a_provider_takes_so_many_jobs_and_costs_so_much() -> None:
    load = Load(provider=4.0, job_s=5.0, max_in_flight=10)
    found = plan(load, COSTS)
    assert found.workers == 1
    assert any("20 in flight" in line and "at most 2 queries a second" in line for line in found.why)
    # 30 circuits of 4,096 shots at Braket: 0.30 a task and 0.08 a shot, each circuit a task
    assert job_usd("braket-forte", 1.0) == pytest.approx(30 * (0.30 + 4_096 * 0.08))
    assert found.usd_a_day == pytest.approx(4.0 * 86_400 * job_usd("braket-forte", 1.0))
    assert plan(replace(load, price="free"), COSTS).usd_a_day == 0.0


def test_the_measured_costs_are_of_all_kinds() -> None:
    assert set(read_costs()) == set(COSTS)
    assert all(parts["replica"] > 0.0 for parts in read_costs().values())


@pytest.mark.parametrize("given", [["--classical", "-5"], ["--refined", "abc"], ["--vectors", "inf"], ["--price", "x"]])
def test_wrong_input_is_refused_in_a_sentence(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["capacity", *given])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert given[0] in capsys.readouterr().err
