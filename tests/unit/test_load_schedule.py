"""Load tests measure from the schedule: what a closed loop would leave out is in their figures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from loadtests.mixes import CENTRES, MIXES, asks, entity, groups, stored
from loadtests.report import Run, page
from loadtests.run import main
from loadtests.schedule import SHAPES, Sample, arrivals, summary, timeline
from loadtests.target import check_target
from loadtests.watch import Counts, Look, counts_of
from quantum_db.client.config import KEY_ENV
from quantum_db.errors import InvalidSettings
from quantum_db.group_bodies import GroupBody, MeasureBody
from quantum_db.requests import EntityBody, QueryBody, parse
from quantum_db.sql_bodies import SqlBatchBody, SqlQueryBody


def served(times: np.ndarray, service_s: float, stall: tuple[float, float], pool: int) -> list[Sample]:
    """Return what a pool of clients finds at a server that answers nothing within ``stall``."""
    free, samples = [0.0] * pool, []
    for scheduled in times.tolist():
        client = int(np.argmin(free))
        sent = max(scheduled, free[client])
        ended = sent + service_s
        if ended > stall[0] and sent < stall[1]:
            ended = max(ended, stall[1] + service_s)
        free[client] = ended
        samples.append(Sample("read", scheduled, sent, ended, ok=True))
    return samples


def test_a_steady_load_is_a_constant_rate() -> None:
    times = arrivals("soak", 100.0, 10.0, 100_000)
    assert len(times) == 1_000
    np.testing.assert_allclose(np.diff(times), 0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_arrivals_follow_the_shape(shape: str) -> None:
    rate, duration_s = 50.0, 40.0
    times = arrivals(shape, rate, duration_s, 100_000)
    assert (np.diff(times) >= 0.0).all()
    assert times[0] >= 0.0
    assert times[-1] <= duration_s
    counts, edges = np.histogram(times, np.linspace(0.0, duration_s, 21))
    at, shares = np.array(SHAPES[shape]).T
    fine = np.linspace(0.0, duration_s, 40_001)[:-1] + duration_s / 80_000
    rates = np.interp(fine, at * duration_s + np.arange(len(at)) * 1e-9, shares * rate)
    expected = np.histogram(fine, edges, weights=rates * duration_s / 40_000)[0]
    np.testing.assert_allclose(counts, expected, atol=1.5)


def test_the_number_of_requests_is_bounded() -> None:
    times = arrivals("spike", 100.0, 10.0, 30)
    np.testing.assert_array_equal(times, arrivals("spike", 100.0, 10.0, 100_000)[:30])


@pytest.mark.parametrize(("shape", "rate", "most"), [("wave", 1.0, 1), ("soak", 0.0, 1), ("soak", 1.0, 0)])
def test_a_schedule_that_is_none_is_refused(shape: str, rate: float, most: int) -> None:
    with pytest.raises(ValueError, match="shape is one of"):
        arrivals(shape, rate, 1.0, most)


def test_a_stall_is_in_the_latencies_and_leaving_out_the_waiting_hides_it() -> None:
    times = arrivals("soak", 100.0, 10.0, 100_000)
    samples = served(times, 0.002, (4.0, 6.0), pool=1)
    found = summary(samples, len(times))
    assert found.longest_ms > 1_900.0
    assert found.p99_ms > 1_500.0, "a fifth of the callers came while nothing was answered"
    assert found.late_share > 0.15
    # the planted fault: a closed loop's measure, from when a request could be sent
    omitted = summary([replace(sample, scheduled_s=sample.sent_s) for sample in samples], len(times))
    assert omitted.p99_ms < 10.0
    assert omitted.p99_ms == pytest.approx(float(np.percentile([sample.service_ms for sample in samples], 99)))


def test_the_timeline_shows_the_stall_where_it_was() -> None:
    times = arrivals("soak", 100.0, 10.0, 100_000)
    line = timeline(served(times, 0.002, (4.0, 6.0), pool=4))
    assert line.arrived[:10].tolist() == [100.0] * 10
    assert line.answered[4:6].sum() <= 4.0
    assert line.backlog.argmax() == 5
    assert line.p99_ms[4] > 1_900.0
    assert line.p99_ms[2] < 10.0
    assert line.answered.sum() == len(times)
    assert line.backlog[-1] == 0.0


def test_what_was_never_answered_counts_as_failed() -> None:
    sample = Sample("read", 0.0, 0.0, 0.1, ok=True)
    found = summary([sample, replace(sample, ok=False)], planned=5)
    assert (found.answered, found.failed) == (1, 4)
    for wrong in ([], [sample] * 6):
        with pytest.raises(ValueError, match="planned"):
            summary(wrong, planned=5)


@pytest.mark.parametrize(
    ("mix", "reads"), [("read-heavy", 0.95), ("write-heavy", 0.4), ("quantum-heavy", 1.0), ("sql", 1.0)]
)
def test_mixes_are_what_they_are_called(mix: str, reads: float) -> None:
    assert sum(MIXES[mix].values()) == pytest.approx(1.0)
    made = asks(mix, 2_000)
    share = sum(ask.name not in {"insert", "update"} for ask in made) / len(made)
    assert share == pytest.approx(reads, abs=0.02)
    assert made == asks(mix, 2_000)
    assert made != asks(mix, 2_000, seed=2)


def test_bodies_are_ones_that_the_cluster_takes() -> None:
    kinds = {"insert": EntityBody, "query": QueryBody, "measure": MeasureBody, "sql": SqlQueryBody}
    made = [ask for mix in MIXES for ask in asks(mix, 200)]
    for ask in made:
        kind = SqlBatchBody if ask.name == "sql batch" else kinds.get(ask.name.split()[0])
        if kind is not None:
            parse(kind, ask.body)
    assert {ask.name for ask in made} == {name for shares in MIXES.values() for name in shares}


def test_groups_are_of_stored_neighbours() -> None:
    vectors = stored()
    ids = [parse(EntityBody, entity(i, vector)).id for i, vector in enumerate(vectors)]
    for group in groups():
        rows = [ids.index(member) for member in parse(GroupBody, group).entity_ids]
        assert len({row % CENTRES for row in rows}) == 1


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8000", "http://example.org", "ftp://127.0.0.1", "127.0.0.1:8000", ""]
)
def test_load_goes_nowhere_else(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidSettings, match="loopback"):
        check_target(url)
    assert main(["--url", url]) == 2
    assert "loopback" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:80", "https://127.9.9.9"])
def test_load_goes_to_this_machine(url: str) -> None:
    check_target(url)


def test_a_given_cluster_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    assert main(["--url", "http://127.0.0.1:9"]) == 2
    assert KEY_ENV in capsys.readouterr().err


def test_what_the_metrics_tell() -> None:
    text = (
        "# TYPE http_requests counter\n"
        'http_requests_total{source="ingress-a"} 3\nhttp_requests_total{source="ingress-b"} 4\n'
        "# TYPE quantum_jobs_now gauge\n"
        'quantum_jobs_now{backend="simulator",where="waiting",source="jobs"} 5\n'
        'quantum_jobs_now{backend="simulator",where="in_flight",source="jobs"} 7\n'
        "# TYPE quantum_workers gauge\n"
        'quantum_workers{state="working",source="jobs"} 3\nquantum_workers{state="draining",source="jobs"} 1\n'
        "# TYPE http_requests_shed counter\n"
        'http_requests_shed_total{source="ingress-a"} 6\nhttp_requests_shed_total{source="ingress-b"} 2\n'
    )
    assert counts_of(text) == Counts(replicas=2, workers=3.0, waiting=5.0, shed=8.0)


def test_the_report_is_one_page_that_says_what_happened() -> None:
    samples = served(arrivals("soak", 20.0, 5.0, 1_000), 0.01, (9.0, 9.0), pool=4)
    samples[3] = replace(samples[3], name="<odd>", ok=False)
    looks = [Look(2.0, Counts(2, 1.0, 0.0, 0.0), 800.0), Look(4.0, Counts(2, 1.0, 3.0, 0.0), 810.0)]
    found = page(Run("a <title>", len(samples), samples, looks, missed=2), "locust.html")
    assert found.count("<svg") == 1
    assert "http://127" not in found
    for text in (
        "a &lt;title&gt;",
        "&lt;odd&gt;",
        "not looked at 2 times",
        'href="locust.html"',
        "<td>100</td><td>1</td>",
    ):
        assert text in found
    for label in ("requests/s", "replicas", "memory"):
        assert f"<!-- {label}" in found


def test_the_locust_side_is_free_of_ray() -> None:
    code = "import sys, loadtests.mixes, loadtests.schedule, loadtests.target; assert 'ray' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
