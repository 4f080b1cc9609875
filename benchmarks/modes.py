"""What each mode gives and costs, side by side: ``python -m benchmarks.modes``.

1,000 usage examples of the WordNet corpus, each in its context, ten hits wanted, circuits always run. The peer is mode
classical. A query goes the product's own way, ``quantum_db.refinement`` and ``quantum_db.retrieval``, with two parts
replaced: candidates come from NumPy, by brute force over the words that have the context, instead of from a store; and
jobs run in this process instead of in the pool. So the times are those of refining and ranking alone. Prices are list
prices of IonQ Forte (Amazon Braket, each circuit of each round a task); nothing is sent there.

Recall is over examples, with 95% bootstrap intervals; those of the ratios are paired. Also draws docs/modes.svg.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from quantum_db import retrieval
from quantum_db.backend_ports import BackendLimits, BackendResult, JobRequest
from quantum_db.circuits.cache import TemplateCache
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.circuits.template import CircuitBatch, Template
from quantum_db.clock import SystemClock
from quantum_db.corpus import Corpus, load_corpus
from quantum_db.errors import NotFound
from quantum_db.ionq.pricing import BRAKET_FORTE
from quantum_db.jobs.rounds import run_here
from quantum_db.model import Candidates, Query
from quantum_db.modes import MODES
from quantum_db.refinement import Policy, Refiner, exact_scores

Array = NDArray[np.float64]
PICTURE = Path(__file__).parents[1] / "docs" / "modes.svg"
TOP_K = 10
EPSILON = 0.02


@dataclass(frozen=True)
class Line:
    """One line of the table: a mode, and whether its shots adapt."""

    name: str
    mode: str
    epsilon: float | None = None


LINES = (
    *(Line(name, name) for name in MODES),
    Line(f"balanced, epsilon = {EPSILON}", "balanced", EPSILON),
)


class PricedSimulator(SimulatorBackend):
    """The in-process simulator, with the list price that the job would have on Forte."""

    def run(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult:
        result = super().run(batch, shots, job_key=job_key, timeout_s=timeout_s)
        template = batch.template
        gates = template.two_qubit_gates
        cost = BRAKET_FORTE.cost_usd(len(batch), shots, len(template.structure) - gates, gates)
        return replace(result, cost_usd=cost)


class InProcessJobs:
    """The job pool's port, without a pool."""

    def __init__(self, backend: SimulatorBackend, clock: SystemClock) -> None:
        self._backend = backend
        self._clock = clock

    async def limits(self, backend: str) -> BackendLimits:  # noqa: ARG002
        return self._backend.limits

    async def run(self, request: JobRequest) -> BackendResult:
        return run_here(self._backend, request, self._clock)


class CachedTemplates:
    """The templates' port, without an actor."""

    def __init__(self) -> None:
        self._cache = TemplateCache()

    async def overlap(self, num_qubits: int) -> Template:
        return self._cache.overlap(num_qubits)

    def note(self, template: Template) -> None:
        self._cache.put(template)

    async def get(self, key: str) -> Template:
        found = self._cache.find(key)
        if found is None:
            raise NotFound(f"there is no circuit {key!r}")
        return found


@dataclass
class Tally:
    """What one line did, a number for each query; a rank is 0 for the best, 1000 for a word that was not answered."""

    ranks: list[int] = field(default_factory=list)
    shots: list[int] = field(default_factory=list)
    usd: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def recalls(self) -> Array:
        """Return recall@1 and recall@10 of each query, (2, Q)."""
        ranks = np.array(self.ranks)
        return np.stack([ranks < 1, ranks < TOP_K]).astype(np.float64)


class BruteForce:
    """Finds the candidates of an example in its context, as a store would."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        domains = np.array(corpus.domains)
        self._rows = {domain: np.flatnonzero(domains == domain) for domain in set(corpus.domains)}
        self._owner = np.repeat(np.arange(len(corpus.words)), np.diff(corpus.first_context))

    def search(self, example: int, limit: int) -> Candidates:
        corpus, domain = self._corpus, self._corpus.example_domains[example]
        rows = self._rows[domain]
        cosines = corpus.vectors[rows] @ corpus.example_vectors[example]
        rows = rows[np.argsort(-cosines, kind="stable")[:limit]]
        return Candidates(
            entity_ids=tuple(corpus.words[word] for word in self._owner[rows]),
            metadata=({},) * rows.size,
            coherence_time_ms=(60_000.0,) * rows.size,
            owner=np.arange(rows.size, dtype=np.int32),
            contexts=(domain,) * rows.size,
            weights=corpus.weights[rows].astype(np.float64),
            vectors=corpus.vectors[rows],
        )


async def ask_all(corpus: Corpus, examples: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Tally]:
    """Ask every example in every mode, in turn, so that a slow spell of the machine meets all modes alike."""
    clock = SystemClock()
    jobs = InProcessJobs(PricedSimulator(rng), clock)
    refiner = Refiner(jobs, CachedTemplates(), clock, Policy(), lambda: "benchmark")
    store, tallies = BruteForce(corpus), {line.name: Tally() for line in LINES}
    for example in examples.tolist():
        for line in LINES:
            query = Query(
                vector=corpus.example_vectors[example],
                contexts=((corpus.example_domains[example], 1.0),),
                mode=line.mode,
                top_k=TOP_K,
                timeout_s=60.0,
                epsilon=line.epsilon,
                refine="always",
            )
            search = retrieval.search_for(query, MODES[line.mode])
            found = store.search(example, search.limit)
            start = time.perf_counter()
            candidates, classical = exact_scores(query, found)
            exact_s = time.perf_counter() - start
            scores, report = await refiner.refine(query, candidates, classical, exact_s)
            hits = retrieval.rank(candidates, classical, scores)
            tally = tallies[line.name]
            tally.milliseconds.append((time.perf_counter() - start) * 1000.0)
            word = corpus.words[corpus.example_words[example]]
            tally.ranks.append(next((place for place, hit in enumerate(hits) if hit.id == word), 1_000))
            tally.shots.append(report.shots)
            tally.usd.append(report.cost_usd)
    return tallies


@dataclass(frozen=True)
class Point:
    """One line's figures: recall@1 and recall@10 (2,), their intervals (2, 2) and paired ratios to the peer."""

    name: str
    recall: Array
    interval: Array
    ratio: Array
    ratio_interval: Array
    shots: float
    usd: float
    milliseconds: float


def points(tallies: dict[str, Tally], resamples: int, rng: np.random.Generator) -> list[Point]:
    peer = tallies[LINES[0].name].recalls()
    picks = rng.integers(0, peer.shape[1], size=(resamples, peer.shape[1]))
    drawn_peer = peer[:, picks].mean(axis=2)
    found = []
    for name, tally in tallies.items():
        each = tally.recalls()
        drawn = each[:, picks].mean(axis=2)
        found.append(
            Point(
                name=name,
                recall=each.mean(axis=1),
                interval=np.percentile(drawn, [2.5, 97.5], axis=1),
                ratio=each.mean(axis=1) / peer.mean(axis=1),
                ratio_interval=np.percentile(drawn / drawn_peer, [2.5, 97.5], axis=1),
                shots=float(np.mean(tally.shots)),
                usd=float(np.mean(tally.usd)),
                milliseconds=float(np.median(tally.milliseconds)),
            )
        )
    return found


def print_table(found: list[Point]) -> None:
    print("| mode | recall@1 | over classical | recall@10 | over classical | mean shots a query ", end="")
    print("| list price a query, Forte | refine + rank, median ms | over classical |")
    print("|---|---|---|---|---|---|---|---|---|")
    for point in found:
        cells = [point.name]
        for place in range(2):
            low, high = point.interval[:, place]
            cells.append(f"{point.recall[place]:.3f} ({low:.3f} to {high:.3f})")
            low, high = point.ratio_interval[:, place]
            cells.append(f"{point.ratio[place]:.3f} ({low:.3f} to {high:.3f})" if point.shots else "1")
        cells += [f"{point.shots:,.0f}", f"${point.usd:,.0f}", f"{point.milliseconds:.2f}"]
        cells.append(f"{point.milliseconds / found[0].milliseconds:.0f}" if point.shots else "1")
        print(f"| {' | '.join(cells)} |")


def draw(found: list[Point], path: Path) -> None:
    """Draw recall against price and against time. What costs nothing is a line across the price's panels."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "modes", "font.size": 9.0})
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for place, name in enumerate(("recall@1", f"recall@{TOP_K}")):
        panels[place, 0].set_ylabel(f"{name} (95% interval)")
        for panel, kind in zip(panels[place], ("usd", "milliseconds"), strict=True):
            draw_panel(panel, found, place, kind)
    panels[1, 0].set_xlabel("list price of a query on IonQ Forte, USD")
    panels[1, 1].set_xlabel("refine + rank in process, median ms")
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def draw_panel(panel: Axes, found: list[Point], place: int, kind: str) -> None:
    panel.set_xscale("log")
    panel.grid(alpha=0.3)
    for number, point in enumerate(found):
        middle, x = point.recall[place], getattr(point, kind)
        low, high = point.interval[:, place]
        colour = f"C{number}"
        if x > 0.0:
            spread = [[middle - low], [high - middle]]
            panel.errorbar([x], [middle], yerr=spread, fmt="o", color=colour, capsize=3, label=point.name)
        else:
            panel.axhline(middle, color=colour, linestyle="--")
            panel.axhspan(low, high, color=colour, alpha=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(20_263)
    corpus = load_corpus()
    examples = rng.choice(len(corpus.example_words), size=arguments.queries, replace=False)
    start = time.perf_counter()
    tallies = asyncio.run(ask_all(corpus, examples, rng))
    found = points(tallies, arguments.resamples, rng)
    print(f"{arguments.queries:,} usage examples in their context, {len(corpus.words):,} words\n")
    print_table(found)
    draw(found, PICTURE)
    print(f"\n{time.perf_counter() - start:.0f} s in all; the picture is in {PICTURE.parent.name}/{PICTURE.name}")


if __name__ == "__main__":
    main()
