"""Starts and stops a cluster on this machine: Ray, the actors, and the ingress on Ray Serve."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import psutil

from cluster.haproxy_on_loopback import BEHIND_PROXY_ENV, CERTIFICATE_ENV, MAX_ONGOING_ENV, PRIVATE_KEY_ENV
from cluster.ray_settings import RaySettings
from cluster.settings import ADMIN_KEY_ENV, HttpSettings, Settings, shared_settings
from quantum_db.errors import InvalidSettings, Unavailable

logger = logging.getLogger(__name__)

APP_NAME = "quantum-db"
RUNTIME_FILE = "cluster.json"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
FREE_PORTS = range(20_000, 30_000)
MORE_REPLICA_PORTS = 48
DEREGISTER_S = "2"
"""How long a replica that goes still takes requests: until HAProxy has heard of it, so that none is cut off."""
INLINE_BYTES = 2_000_000
"""Answers of actors up to this size come with the reply. Those to searches of many callers are some 250 kB, and Ray's
100 kB would send them by way of the object store, which takes a fifth of the throughput of classical queries."""


_LOCAL_RAY = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray replaces 127.0.0.1 by an address seen from outside
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that answers.

    Attributes:
        grpc_address: host and port of gRPC, None where it is not served.
        ray_address: by which another Ray job joins it.
        admin_key: the administrator's key, if this start was given or has made one.
        made_key: whether it was made: nobody else knows it.
    """

    url: str
    grpc_address: str | None
    ray_address: str
    admin_key: str | None = field(repr=False)
    made_key: bool


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """Start a cluster, yield when it answers, and stop all of it, whatever happens inside.

    SIGTERM is turned into SystemExit for as long as the cluster runs, so that it stops by the same way. Once in a
    process: Ray reads its environment when it is imported.

    Raises:
        TimeoutError: a part was not ready in time.
    """
    previous = signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without job control has it ignored
    before = set(psutil.Process().children(recursive=True))
    scratch = Path(tempfile.mkdtemp(prefix="qqc-"))  # short: Ray puts sockets below it, and their paths are bounded
    try:
        _set_environment(settings, scratch)
        yield _start(settings, scratch)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        started = set(psutil.Process().children(recursive=True)) - before
        _stop(settings)
        _wait_for_the_end(started)
        shutil.rmtree(scratch, ignore_errors=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, previous)


def tend(settings: Settings) -> None:
    """Start Ray's control process again if it has ended and its state is in Redis; call it every second or so.

    Without it the cluster works on for a minute, in which nothing is restarted, and then ends.
    """
    from ray._private import ray_constants, worker

    node = worker._global_node
    if settings.ray.redis_url is None or node is None:
        return
    found = node.all_processes.get(ray_constants.PROCESS_TYPE_GCS_SERVER, [])
    if found and found[0].process.poll() is not None:
        logger.warning("Ray's control process has ended with %s and is started again", found[0].process.returncode)
        node.kill_gcs_server(check_alive=False)
        node.start_gcs_server()


def use_local_ray() -> None:
    """Set what a process needs to start or join a Ray cluster on loopback. Call it before Ray is imported."""
    for name, value in _LOCAL_RAY.items():
        os.environ.setdefault(name, value)


def free_port() -> int:
    """Return a TCP port that was free on loopback a moment ago.

    It lies below the ports that the system gives to connections, one of which could take it before a server does.
    """
    for _ in range(1_000):
        with socket.socket() as probe, suppress(OSError):
            port = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS))
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable(f"no port from {FREE_PORTS.start} to {FREE_PORTS.stop - 1} is free")


def free_ports(count: int) -> range:
    """Return TCP ports beside each other that were free on loopback a moment ago, for the replicas of one cluster.

    Clusters of one machine must not share these: a proxy that knew of a replica would go on to ask whoever has its port
    after it.
    """
    for _ in range(1_000):
        start = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS) - count + 1)
        found = range(start, start + count)
        with suppress(OSError):
            for port in found:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return found
    raise Unavailable(f"no {count} ports beside each other are free from {FREE_PORTS.start} to {FREE_PORTS.stop - 1}")


def _exit(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise SystemExit(128 + number)


def _wait_for_the_end(started: set[psutil.Process]) -> None:
    """Wait until the processes have ended: Ray does not. What has not ended in time is killed."""
    _, alive = psutil.wait_procs(started, timeout=STOP_TIMEOUT_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _set_environment(settings: Settings, scratch: Path) -> None:
    """Set what Ray reads at import, in this process and in all that it starts. What the user has set stays."""
    os.environ.update(_protection(settings.ray) | _tls(settings.http))
    os.environ[MAX_ONGOING_ENV] = str(settings.ray.max_ongoing_requests)
    use_local_ray()
    replica_ports = free_ports(MORE_REPLICA_PORTS + 2 * settings.ray.most_replicas)
    fixed = settings.ray.fewest_replicas == settings.ray.most_replicas
    wanted = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0" if fixed else DEREGISTER_S,
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replica_ports.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replica_ports.stop - 1),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),  # else all clusters of a machine fall back to one's
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy_on_loopback.py")),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(scratch / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(scratch / "haproxy.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(scratch),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(scratch / "haproxy.state"),
        "RAY_max_direct_call_object_size": str(INLINE_BYTES),
        "RAY_worker_niceness": "0",  # else Ray's 15: whatever else the machine does would go before every answer
        "RAY_task_events_report_interval_ms": "0",  # else Ray's control process keeps 100,000 calls, for nobody
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if settings.ray.redis_url is not None:
        redis = urlsplit(settings.ray.redis_url)
        wanted["RAY_REDIS_ADDRESS"] = f"{redis.scheme}://{redis.hostname}:{redis.port}"
        wanted["RAY_external_storage_namespace"] = secrets.token_hex(8)  # never the remains of an earlier run
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def _protection(ray: RaySettings) -> dict[str, str]:
    """Return the environment by which Ray's processes know each other. Raises InvalidSettings."""
    found = {}
    if ray.auth_mode == "token":
        if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
            raise InvalidSettings("ray.auth_mode is token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, on every node")
        found["RAY_AUTH_MODE"] = "token"
    if ray.tls is not None:
        found |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(ray.tls.certificate.resolve()),
            "RAY_TLS_SERVER_KEY": str(ray.tls.private_key.resolve()),
            "RAY_TLS_CA_CERT": str(ray.tls.authority.resolve()),
        }
    return found


def _tls(http: HttpSettings) -> dict[str, str]:
    """Return the environment of ``haproxy_on_loopback``. Raises InvalidSettings where a file cannot be read."""
    found = {BEHIND_PROXY_ENV: "1"} if http.behind_tls_proxy else {}
    if http.tls is not None:
        paths = {CERTIFICATE_ENV: http.tls.certificate.resolve(), PRIVATE_KEY_ENV: http.tls.private_key.resolve()}
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(paths[CERTIFICATE_ENV], paths[PRIVATE_KEY_ENV], _no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise InvalidSettings(f"http.tls: certificate and private key cannot be used: {error}") from error
        found |= {name: str(path) for name, path in paths.items()}
    return found


def _no_password() -> str:
    raise ValueError("the private key has a password, which nobody could type in")


def _start(settings: Settings, scratch: Path) -> Running:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from cluster.wiring import deploy

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    port = settings.http.port or free_port()
    grpc_address = grpc_address_of(settings)
    redis = urlsplit(settings.ray.redis_url or "")
    ray.init(
        address="local",
        _redis_username=redis.username or "",
        _redis_password=redis.password or "",
        num_cpus=settings.ray.num_cpus,
        include_dashboard=False,
        namespace="quantum-db",
        log_to_driver=False,
        logging_level="warning",
        _node_ip_address="127.0.0.1",
        _temp_dir=str(scratch / "ray"),
    )
    signal.signal(signal.SIGTERM, _exit)  # Ray has put a handler of its own there, which aborts
    serve.start(http_options=HTTPOptions(host=settings.http.host, port=port), logging_config={"log_level": "WARNING"})
    key = deploy(settings, APP_NAME, START_TIMEOUT_S, grpc_address)
    made = key is not None and ADMIN_KEY_ENV not in os.environ
    scheme = "http" if settings.http.tls is None else "https"
    url, ray_address = f"{scheme}://{settings.http.host}:{port}", ray.get_runtime_context().gcs_address
    found = Running(url, grpc_address, ray_address, key, made)
    content: dict[str, Any] = {"url": url, "grpc": grpc_address, "ray_address": ray_address, "pid": os.getpid()}
    content["settings"] = shared_settings(settings)
    (settings.data_dir / RUNTIME_FILE).write_text(json.dumps(content), encoding="utf-8")
    return found


def grpc_address_of(settings: Settings) -> str | None:
    """Return where gRPC is to be served, None where it is not. Raises Unavailable where something else listens."""
    host, port = settings.http.host, settings.grpc.port
    if port is None:
        return None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(f"gRPC cannot be served on {host}:{port}, see grpc.port: {error.strerror}") from error
    return f"{host}:{port or free_port()}"


def _stop(settings: Settings) -> None:
    import ray
    from ray import serve

    from cluster.wiring import close

    (settings.data_dir / RUNTIME_FILE).unlink(missing_ok=True)
    if not ray.is_initialized():
        return
    try:
        serve.delete(APP_NAME)  # lets running requests end
        close(settings)
    finally:
        ray.shutdown()
        _forget_redis(settings.ray.redis_url)


def _forget_redis(url: str | None) -> None:
    """Delete what this run's Ray head kept in Redis; nothing reads it again."""
    from ray._private.gcs_utils import cleanup_redis_storage

    if url is not None:
        redis = urlsplit(url)
        namespace = os.environ["RAY_external_storage_namespace"]  # noqa: SIM112 - the name is Ray's
        tls = redis.scheme == "rediss"
        cleanup_redis_storage(redis.hostname, redis.port, redis.password or "", tls, namespace, redis.username)
