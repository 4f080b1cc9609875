"""The main job: a whole cluster on this machine, the WordNet corpus, and context queries over HTTP."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster.emulator import running_emulator
from cluster.runtime import running
from cluster.settings import HttpSettings, JobSettings, Settings
from quantum_db.corpus import Corpus, load_corpus
from quantum_db.ionq.pricing import BRAKET_FORTE
from quantum_db.jobs.backends import BackendSpec

BATCH = 250
TOP_K = 5
SENSE_WIDTH = 52
HTTP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    """A usage example of the corpus, by its text, and the backend that refines its query."""

    text: str
    backend: str


QUESTIONS = (
    Question("he cashed a check at the bank", "simulator"),
    Question("the Earth moves around the sun", "ionq"),
    Question("a mouse takes much more room than a trackball", "simulator"),
    Question("they have a chef who specializes in fish", "ionq"),
    Question("he owns a controlling share of the company's stock", "simulator"),
)


def run_demo(console: Console) -> None:
    """Start everything, load the corpus, ask, print, and stop everything."""
    corpus = load_corpus()
    console.print("starting the IonQ emulator and the cluster ...")
    with tempfile.TemporaryDirectory(prefix="qqc-demo-") as folder, running_emulator() as emulator:
        backends = {
            "simulator": BackendSpec(kind="simulator"),
            "ionq": BackendSpec(kind="ionq", url=emulator.url, token_env=emulator.token_env),
        }
        settings = Settings(
            data_dir=Path(folder), http=HttpSettings(port=0), jobs=JobSettings(backends=backends, max_waiting=100)
        )
        with running(settings) as cluster, httpx.Client(base_url=cluster.url, timeout=HTTP_TIMEOUT_S) as client:
            client.headers["api-key"] = str(cluster.admin_key)
            console.print(f"the cluster answers at {cluster.url}")
            load(client, corpus, console)
            firsts = [ask(client, corpus, question, console) for question in QUESTIONS]
            with_context, without = (sum(found) for found in zip(*firsts, strict=True))
            console.print(f"\nright word first: {with_context} of {len(firsts)} in context, {without} without")
            console.print(state_line(client, "bank"))
            console.print("stopping the cluster ...")


def load(client: httpx.Client, corpus: Corpus, console: Console) -> None:
    """Write the whole corpus over HTTP, with a progress bar."""
    columns = (TextColumn("loading words"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("load", total=len(corpus.words))
        batch: list[dict[str, Any]] = []
        for body in corpus.bodies():
            batch.append(body)
            if len(batch) == BATCH:
                _write(client, batch)
                progress.advance(task, len(batch))
                batch = []
        if batch:
            _write(client, batch)
            progress.advance(task, len(batch))


def ask(client: httpx.Client, corpus: Corpus, question: Question, console: Console) -> tuple[bool, bool]:
    """Ask a usage example in its context and in none, and print both answers.

    Returns:
        Whether the right word came first with the context, and without.
    """
    row = corpus.example_texts.index(question.text)
    word, domain = corpus.words[corpus.example_words[row]], corpus.example_domains[row]
    body = {
        "vector": corpus.example_vectors[row].astype(float).round(4).tolist(),
        "mode": "balanced",
        "backend": question.backend,
        "top_k": TOP_K,
        "refine": "always",
        "timeout_ms": 30_000,
        "explain": True,
    }
    console.print(f"\n[bold]“{question.text}”[/bold]: which word, as {domain}? (it is {word})")
    first = []
    for context in (domain, None):
        response = client.post("/api/v2/query", content=orjson.dumps({**body, "context": context}))
        response.raise_for_status()
        title = f"in the context {context}" if context else "without a context"
        answer = response.json()
        console.print(answer_table(title, word, answer))
        first.append(answer["hits"][0]["id"] == word)
    return first[0], first[1]


def state_line(client: httpx.Client, word: str) -> str:
    """Return what the state manager knows of a word; it hears of a query a moment after the answer."""
    deadline = time.monotonic() + HTTP_TIMEOUT_S
    while True:
        state = client.get(f"/api/v2/states/{word}").raise_for_status().json()
        if state["measurements"] or time.monotonic() > deadline:
            return f"the state of {word}: {state['phase']}, generation {state['generation']}"
        time.sleep(0.1)


def answer_table(title: str, word: str, answer: Mapping[str, Any]) -> Table:
    """Return an answer as a table; the hit that is ``word`` is marked."""
    refinement, stages = answer["refinement"], answer["stages"]
    times = ", ".join(f"{name.removesuffix('_ms')} {value:.1f} ms" for name, value in stages.items())
    shots = refinement["shots"] // max(1, refinement["circuits"])
    forte_usd = BRAKET_FORTE.cost_usd(refinement["circuits"], shots, 0, 0) if refinement["ran"] else 0.0
    caption = (
        f"{refinement['circuits']} circuits of {refinement['qubits']} qubits, {refinement['provenance']}; "
        f"order {'changed' if refinement['changed_order'] else 'as in the classical ranking'}; "
        f"on IonQ Forte at list price ${forte_usd:,.0f}\n{times}"
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for column in ("rank", "word", "sense", "classical", "quantum", "95% interval", "shots", "backend", "cost"):
        table.add_column(column, justify="left" if column in ("word", "sense", "backend") else "right")
    for rank, hit in enumerate(answer["hits"], start=1):
        gloss = hit["metadata"]["glosses"][hit["context"]]
        interval = hit["interval"]
        table.add_row(
            str(rank),
            f"[bold green]{hit['id']}[/bold green]" if hit["id"] == word else hit["id"],
            f"{hit['context']}: {gloss}"[:SENSE_WIDTH],
            f"{hit['classical_score']:.4f}",
            f"{hit['score']:.4f}" if refinement["ran"] else "-",
            f"{interval['low']:.4f} to {interval['high']:.4f}" if interval else "-",
            f"{shots:,}",
            str(refinement["backend"]),
            f"${refinement['cost_usd']:.2f}",
        )
    return table


def _write(client: httpx.Client, batch: list[dict[str, Any]]) -> None:
    client.post("/api/v2/vectors/batch", content=orjson.dumps({"vectors": batch})).raise_for_status()


def main() -> int:
    """Run the demo; return the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        run_demo(console)
    except KeyboardInterrupt:
        console.print("interrupted; everything has been stopped")
        return 130
    console.print("done; everything has been stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
