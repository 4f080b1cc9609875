"""Runs a load test and writes its report: ``python -m loadtests.run``, or ``make loadtest``.

Starts a cluster of its own on a free port of loopback and stops it at the end, unless ``--url`` names one that runs
there (with the key in ``QUANTUM_DB_KEY``). With ``--elastic`` the numbers of its replicas and workers follow the load.
Its backend ``ionq`` is the emulator, whose jobs take a second. locust runs as a child: it and Ray do not get on in one
process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import orjson
import psutil

from cluster.emulator import Emulator, running_emulator
from cluster.ray_settings import RaySettings
from cluster.runtime import running
from cluster.settings import HttpSettings, JobSettings, Settings
from cluster.sql_settings import SqlSettings
from loadtests.mixes import (
    COLLECTION,
    DEFAULT_RATES,
    DIMENSION,
    MIXES,
    PROVIDER,
    SQL_DATABASE,
    about,
    entity,
    groups,
    stored,
)
from loadtests.report import Run, page
from loadtests.schedule import SHAPES, Sample, Summary, summary
from loadtests.target import check_target
from loadtests.watch import Watch
from quantum_db.client.config import KEY_ENV
from quantum_db.errors import InvalidSettings
from quantum_db.jobs.backends import BackendSpec
from sql_synthesizer.demo import CHINOOK

REPORT = "report.html"
LOCUST_REPORT = "locust.html"
SAMPLES = "samples.json"
ROOT = Path(__file__).parents[1]
WRITE = 500
JOB_S = "1"
SQL_URL_ENV = "LOADTEST_CHINOOK_URL"
ELASTIC = RaySettings(max_replicas=3, target_ongoing_requests=8.0, scale_down_s=10.0)
GRACE_S = 90.0
"""How long locust may take beside its schedule: to start, for the last answers, and for its report."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: ``rate`` requests a second by ``shape``, at most ``requests``; the report goes to ``folder``."""

    mix: str
    shape: str
    rate: float
    duration_s: float
    requests: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that is loaded. ``processes`` are those whose memory counts."""

    url: str
    key: str
    processes: list[psutil.Process]


def load_data(target: Target) -> None:
    """Write the entities and groups of the mixes, into a collection of their own.

    Raises ``httpx.HTTPStatusError`` where the cluster refuses them.
    """
    vectors = stored()
    with httpx.Client(base_url=target.url, headers={"api-key": target.key}, timeout=60.0) as client:
        made = client.post("/api/v2/collections", json={"name": COLLECTION, "dimension": DIMENSION})
        made.raise_for_status()
        for start in range(0, len(vectors), WRITE):
            some = [entity(start + i, vector) for i, vector in enumerate(vectors[start : start + WRITE])]
            client.post(about("/api/v2/vectors/batch"), content=orjson.dumps({"vectors": some})).raise_for_status()
        for group in groups():
            client.post(about("/api/v2/entanglement/groups"), json=group).raise_for_status()


def load_test(target: Target, plan: Plan) -> Summary:
    """Load a cluster that has the data, and write the report.

    Raises:
        InvalidSettings: the target is not on loopback.
        RuntimeError: locust did not come to its end.
    """
    check_target(target.url)
    plan.folder.mkdir(parents=True, exist_ok=True)
    samples_file = (plan.folder / SAMPLES).resolve()
    samples_file.unlink(missing_ok=True)
    with Watch(target.url, target.key, target.processes) as watch:
        told = _run_locust(target, plan, samples_file)
    if not samples_file.exists():
        raise RuntimeError(f"locust ended without samples:\n{told}")
    kept = orjson.loads(samples_file.read_bytes())
    samples = [Sample(**sample) for sample in kept["samples"]]
    found = summary(samples, kept["planned"])
    title = f"{plan.mix}, {plan.shape}, {plan.rate:g} requests/s for {plan.duration_s:g} s"
    looks = [replace(look, at_s=look.at_s - kept["started_at_s"]) for look in watch.looks]
    run = Run(title, kept["planned"], samples, [look for look in looks if look.at_s >= 0.0], watch.missed)
    (plan.folder / REPORT).write_text(page(run, LOCUST_REPORT), encoding="utf-8")
    return found


def _run_locust(target: Target, plan: Plan, samples: Path) -> str:
    """Run locust to its end; return what it told."""
    options = ["--headless", "--only-summary", "--host", target.url]
    options += ["--html", str((plan.folder / LOCUST_REPORT).resolve()), "--loglevel", "WARNING"]
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *options]
    given = {
        "MIX": plan.mix,
        "SHAPE": plan.shape,
        "RATE": str(plan.rate),
        "DURATION_S": str(plan.duration_s),
        "REQUESTS": str(plan.requests),
        "SAMPLES": str(samples),
    }
    environment = os.environ | {KEY_ENV: target.key} | {f"LOADTEST_{name}": value for name, value in given.items()}
    environment["PYTHONPATH"] = str(ROOT)  # locust loads its file by path, which imports its neighbours by name
    limit_s = plan.duration_s + GRACE_S
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"locust did not end within {limit_s:.0f} s") from None
    return done.stdout


def settings_of(folder: Path, emulator: Emulator, elastic: bool, sql: bool) -> Settings:
    """Return the settings of a cluster of its own; with ``sql`` it has the SQL database that ships."""
    spec = BackendSpec("ionq", url=emulator.url, token_env=emulator.token_env)
    backends = {"simulator": BackendSpec("simulator"), PROVIDER: spec}
    ray, more = (ELASTIC, {"max_workers": 4, "scale_cooldown_s": 5.0}) if elastic else (RaySettings(), {})
    jobs = JobSettings.model_validate({"backends": backends, **more})
    os.environ[SQL_URL_ENV] = f"sqlite:///{CHINOOK}"
    databases = {SQL_DATABASE: {"url_env": SQL_URL_ENV, "tenants": "all"}} if sql else {}
    workers = {"max_replicas": 3, "scale_down_s": 10.0} if elastic else {}
    found = SqlSettings.model_validate({"databases": databases, **workers})
    return Settings(data_dir=folder, http=HttpSettings(port=0), ray=ray, jobs=jobs, sql=found)


@contextlib.contextmanager
def own_cluster(elastic: bool = False, sql: bool = False) -> Iterator[Target]:
    """Run a cluster that ends with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="qqc-load-") as folder,
        running_emulator(["--started-s", JOB_S]) as emulator,
        running(settings_of(Path(folder), emulator, elastic, sql)) as cluster,
    ):
        yield Target(cluster.url, str(cluster.admin_key), psutil.Process().children(recursive=True))


@contextlib.contextmanager
def given_cluster(url: str) -> Iterator[Target]:
    """Yield a cluster that runs already. Raises InvalidSettings where it is elsewhere, or there is no key."""
    check_target(url)
    if KEY_ENV not in os.environ:
        raise InvalidSettings(f"the key of {url} is missing: set {KEY_ENV}")
    yield Target(url, os.environ[KEY_ENV], [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a load test; return 0, 1 when requests failed, 2 when what was given is wrong."""
    parser = argparse.ArgumentParser(prog="loadtests.run", description=__doc__)
    parser.add_argument("--mix", choices=sorted(MIXES), default="read-heavy")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="ramp")
    parser.add_argument("--rate", type=float, help=f"requests a second where the shape is 1; by mix: {DEFAULT_RATES}")
    parser.add_argument("--duration-s", type=float, default=120.0)
    parser.add_argument("--requests", type=int, default=100_000, help="at most so many")
    parser.add_argument("--folder", type=Path, default=Path(".data/loadtest"), help="for the report")
    parser.add_argument("--elastic", action="store_true", help="1 to 3 replicas and 1 to 4 workers, by the load")
    parser.add_argument("--url", help="of a cluster on this machine, instead of one of its own; data is written to it")
    given = parser.parse_args(arguments)
    rate = DEFAULT_RATES[given.mix] if given.rate is None else given.rate
    if not (rate > 0.0 and given.duration_s > 0.0 and given.requests > 0):
        parser.error("--rate, --duration-s and --requests are positive")
    plan = Plan(given.mix, given.shape, rate, given.duration_s, given.requests, given.folder)
    try:
        with (
            own_cluster(given.elastic, given.mix == "sql") if given.url is None else given_cluster(given.url) as target
        ):
            load_data(target)
            print(
                f"{plan.mix}, {plan.shape}: {rate:g} requests/s for {plan.duration_s:g} s to {target.url}", flush=True
            )
            found = load_test(target, plan)
    except InvalidSettings as error:
        print(error.detail, file=sys.stderr)
        return 2
    print(
        f"{found.answered:,} of {found.planned:,} answered, {found.failed:,} failed, {found.late_share:.1%} sent late"
    )
    print(f"from the scheduled time: p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f}, longest {found.longest_ms:.1f}")
    print(f"report: {plan.folder / REPORT}")
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
