"""The report of a load test: one HTML page with the figures, the plot, and locust's own report beside it."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np

mpl.use("svg")

from matplotlib.figure import Figure

from loadtests.schedule import Sample, Summary, summary, timeline
from loadtests.watch import Look

STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}td:first-child,th:first-child"
    "{text-align:left}svg{max-width:100%;height:auto}"
)


@dataclass(frozen=True, slots=True)
class Run:
    """A load test that has ended.

    Attributes:
        looks: with their times from the start of the schedule.
        missed: how often the cluster was not looked at in time.
    """

    title: str
    planned: int
    samples: Sequence[Sample]
    looks: Sequence[Look]
    missed: int


def plot(run: Run) -> str:
    """Return rate, latency, replicas and workers, queue and memory over time as SVG."""
    line = timeline(run.samples)
    seconds, at = np.arange(len(line.arrived)) + 0.5, [look.at_s for look in run.looks]
    figure = Figure(figsize=(9.0, 11.0), layout="constrained")
    rate, latency, replicas, queue, memory = figure.subplots(5, 1, sharex=True)
    rate.plot(seconds, line.arrived, label="arrived")
    rate.plot(seconds, line.answered, label="answered")
    rate.set_ylabel("requests/s")
    latency.plot(seconds, line.p50_ms, label="p50")
    latency.plot(seconds, line.p99_ms, label="p99")
    latency.set_yscale("log")
    latency.set_ylabel("ms from the schedule")
    replicas.step(at, [look.counts.replicas for look in run.looks], where="post", label="ingress replicas")
    replicas.step(at, [look.counts.workers for look in run.looks], where="post", label="job workers")
    replicas.set_ylabel("replicas, workers")
    queue.plot(seconds, line.backlog, label="not answered")
    queue.plot(at, [look.counts.waiting for look in run.looks], label="wait for a backend")
    queue.set_ylabel("requests")
    memory.plot(at, [look.memory_mb for look in run.looks])
    memory.set_ylabel("memory, MB")
    memory.set_xlabel("seconds")
    for axes in (rate, latency, replicas, queue):
        axes.legend(loc="upper left")
    for axes in (rate, replicas, queue, memory):
        axes.set_ylim(bottom=0.0)
    for axes in (rate, latency, replicas, queue, memory):
        axes.grid(alpha=0.3)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def row(name: str, found: Summary) -> str:
    """Return a line of the table."""
    times = f"{found.p50_ms:.1f}</td><td>{found.p99_ms:.1f}</td><td>{found.longest_ms:.1f}"
    counts = f"{found.planned:,}</td><td>{found.failed:,}"
    return f"<tr><td>{html.escape(name)}</td><td>{counts}</td><td>{times}</td><td>{found.late_share:.1%}</td></tr>"


def page(run: Run, locust_report: str) -> str:
    """Return the page. ``locust_report`` is the name of the file beside it."""
    rows = [row("all", summary(run.samples, run.planned))]
    for name in sorted({sample.name for sample in run.samples}):
        own = [sample for sample in run.samples if sample.name == name]
        rows.append(row(name, summary(own, len(own))))
    missed = f" The cluster was not looked at {run.missed} times, as it was too slow for it." if run.missed else ""
    heads = "".join(
        f"<th>{name}</th>" for name in ("request", "planned", "failed", "p50 ms", "p99 ms", "longest ms", "sent late")
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(run.title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(run.title)}</h1>"
        f"<p>Latencies count from the time that the schedule has for a request, so that waiting is in them.{missed}</p>"
        f"<table><tr>{heads}</tr>{''.join(rows)}</table>{plot(run)}"
        f'<p><a href="{html.escape(locust_report)}">locust\'s own report</a></p></html>'
    )
