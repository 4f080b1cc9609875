"""``quantum-db doctor``: looks for what would keep a cluster from running, and tells what helps."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import parse_qsl, urlencode

import httpx

from cluster import background
from cluster.runtime import RUNTIME_FILE
from cluster.settings import Settings
from quantum_db.errors import QuantumDBError
from quantum_db.jobs.backends import BackendSpec
from quantum_db.journals.redis_client import Durability, RedisClient

PRODUCT: Final = "quantum-query-cluster"
PYTHON: Final = (3, 11)
TIMEOUT_S: Final = 3.0
FREE_BYTES: Final = 2 * 1024**3
LEAST_BYTES: Final = 256 * 1024**2
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Ray keeps its objects
CLOCK_S: Final = 60.0
OLDEST_S: Final = 1_735_689_600.0
"""The beginning of 2025: a clock that shows less has not been set."""

State = Literal["ok", "warning", "failed"]
OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and what helps where that is not good."""

    name: str
    state: State
    what: str
    remedy: str | None = None


def examine(settings: Settings, now_s: Callable[[], float] = time.time) -> list[Finding]:
    """Look at everything that a cluster with these settings stands on. Every look has a bound."""
    findings = [_python(), *_packages(), _clock(now_s()), *_ports(settings), _data_dir(settings.data_dir)]
    findings += [_disk(path) for path in (settings.data_dir, SHARED_MEMORY, Path(tempfile.gettempdir()))]
    findings += [_redis(name, url) for name, url in _redis_urls(settings)]
    if settings.store.kind == "qdrant" and settings.store.url is not None:
        findings += _qdrant(settings.store.url, settings.store.api_key_env, now_s)
    for name, spec in settings.jobs.backends.items():
        if spec.kind == "ionq":
            findings += _ionq(f"jobs.backends.{name}", spec, now_s)
    return findings


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        return Finding("python", FAILED, found, f"use Python {PYTHON[0]}.{PYTHON[1]} or later")
    return Finding("python", OK, found)


def _packages() -> Iterator[Finding]:
    """Yield one finding for all packages that are as they should be, or one for each that is not."""
    try:
        wanted = [line for line in requires(PRODUCT) or () if "extra ==" not in line]
    except PackageNotFoundError:
        yield Finding("packages", WARNING, f"{PRODUCT} itself is not installed", "run make setup")
        return
    bad = [finding for line in wanted if (finding := package(line)) is not None]
    yield from bad
    if not bad:
        yield Finding("packages", OK, f"{len(wanted)} are installed in the versions that are needed")


def package(requirement: str) -> Finding | None:
    """Return what is wrong with a package that is required like ``name[extra]>=1.2``, None if nothing is."""
    name, least = re.match(r"([\w.-]+)(?:\[[^]]*\])?(?:>=([\d.]+))?", requirement).groups()  # type: ignore[union-attr]
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(f"package {name}", FAILED, "is not installed", "run make setup")
    if least is not None and _numbers(found) < _numbers(least):
        return Finding(f"package {name}", FAILED, f"{found}, but {least} or later is needed", "run make setup")
    return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _clock(now_s: float) -> Finding:
    if now_s < OLDEST_S:
        return Finding("clock", FAILED, time.strftime("%Y-%m-%d", time.gmtime(now_s)), "set the clock, better by NTP")
    return Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def _ports(settings: Settings) -> Iterator[Finding]:
    running = background.found(settings.data_dir.resolve())
    yield _port("http", settings.http.host, settings.http.port, running)
    if settings.grpc.port is not None:
        yield _port("grpc", settings.http.host, settings.grpc.port, running)


def _port(setting: str, host: str, port: int, running: background.Background | None) -> Finding:
    name = f"port {host}:{port}"
    if port == 0:
        return Finding("port", OK, f"a free one will be taken for {setting}")
    if running is not None and (running.url.endswith(f":{port}") or (running.grpc or "").endswith(f":{port}")):
        return Finding(name, OK, f"the cluster of this data_dir serves it (process {running.pid})")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(
                name, FAILED, error.strerror or str(error), f"stop what listens there, or set {setting}.port"
            )
    return Finding(name, OK, "is free")


def _data_dir(data_dir: Path) -> Finding:
    name = f"data_dir {data_dir}"
    place = data_dir
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return Finding(name, FAILED, f"{place} is not a folder", "set data_dir to a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(name, FAILED, f"{place} cannot be written by this user", f"chown {place}, or set data_dir")
    if data_dir.exists() and data_dir.stat().st_uid != os.getuid():
        owner = f"belongs to the user with the number {data_dir.stat().st_uid}"
        return Finding(name, FAILED, owner, f"chown -R {data_dir}, or run as that user")
    if (data_dir / RUNTIME_FILE).exists() and background.found(data_dir) is None:
        left = f"{RUNTIME_FILE} tells of a cluster that has ended without stopping"
        return Finding(name, WARNING, left, "start it again: nothing acknowledged is lost; quantum-db down forgets it")
    return Finding(name, OK, "can be written" if data_dir.exists() else "will be made")


def _disk(path: Path) -> Finding:
    place = path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return space(str(path), free)


def space(path: str, free: int) -> Finding:
    """Return what free bytes under a path mean."""
    what = f"{free / 1024**3:,.1f} GiB are free"
    if free < LEAST_BYTES:
        return Finding(f"disk {path}", FAILED, what, f"at least {LEAST_BYTES // 1024**2} MiB are needed; free some")
    if free < FREE_BYTES:
        return Finding(f"disk {path}", WARNING, what, f"{FREE_BYTES // 1024**3} GiB are wanted; free some")
    return Finding(f"disk {path}", OK, what)


def _redis_urls(settings: Settings) -> Iterable[tuple[str, str]]:
    named = {
        "ray.redis_url": settings.ray.redis_url,
        "jobs.journal_url": settings.jobs.journal_url,
        "states.journal_url": settings.states.journal_url,
        "groups.journal_url": settings.groups.journal_url,
        "store.journal_url": settings.store.journal_url,
        "access.journal_url": settings.access.journal_url,
        "limits.redis_url": settings.limits.redis_url,
        "cache.redis_url": settings.cache.redis_url,
    }
    return [(name, url) for name, url in named.items() if url is not None and url.startswith(("redis://", "rediss://"))]


def _redis(name: str, url: str) -> Finding:
    server, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    options.pop("name", None)
    durability = "trusted" if name.endswith(".redis_url") else options.pop("durability", "checked")
    try:
        client = RedisClient(
            f"{server}?{urlencode(options)}",
            "doctor",
            timeout_s=TIMEOUT_S,
            durability=cast("Durability", durability),
        )
    except QuantumDBError as error:
        return Finding(name, FAILED, error.detail, "start that Redis and set it as told, or change the URL")
    client.close()
    return Finding(name, OK, f"{client.place} answers")


def _qdrant(url: str, key_env: str, now_s: Callable[[], float]) -> Iterator[Finding]:
    key = os.environ.get(key_env)
    headers = {} if key is None else {"api-key": key}
    remedy = f"start it, or change store.url; its key comes from {key_env}"
    yield from _asked("store.url", f"{url.rstrip('/')}/collections", headers, remedy, now_s)


def _ionq(name: str, spec: BackendSpec, now_s: Callable[[], float]) -> Iterator[Finding]:
    token = os.environ.get(spec.token_env)
    if not token:
        remedy = f"export {spec.token_env}, or take the backend out of the settings"
        yield Finding(name, FAILED, f"the environment variable {spec.token_env} holds no API key", remedy)
        return
    headers = {"Authorization": f"apiKey {token}"}
    remedy = f"look at url, and at the key in {spec.token_env}"
    yield from _asked(name, f"{spec.url.rstrip('/')}/backends", headers, remedy, now_s)


def _asked(name: str, url: str, headers: dict[str, str], remedy: str, now_s: Callable[[], float]) -> Iterator[Finding]:
    """Yield whether a server answers, and whether its clock is like ours."""
    try:
        answer = httpx.get(url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding(name, FAILED, f"{url} does not answer: {str(error) or type(error).__name__}", remedy)
        return
    if not answer.is_success:
        yield Finding(name, FAILED, f"{url} answers {answer.status_code}", remedy)
        return
    yield Finding(name, OK, f"{url} answers")
    apart_s = clock_difference_s(answer.headers.get("date"), now_s())
    if apart_s is not None and abs(apart_s) > CLOCK_S:
        what = f"its clock and this one differ by {apart_s:,.0f} s"
        yield Finding(f"clock of {name}", WARNING, what, "set both by NTP")


def clock_difference_s(date: str | None, now_s: float) -> float | None:
    """Return by how many seconds a server's ``Date`` is ahead, None where it tells none."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp() - now_s
    except ValueError:
        return None
