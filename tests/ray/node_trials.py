"""A Ray cluster of three nodes on one machine, and what becomes of its actors when one of them is lost.

``main`` is a program for namespaces of its own (``unshare --net --pid``): Ray's nodes listen on the only address there
is, loopback, and no process outlives the program. It tells what it found as JSON; ``test_nodes`` holds it against what
has to be.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import GetTimeoutError, RayActorError

from actors.job_pool import PoolSettings
from actors.pool_client import POOL_NAME, QuantumPool
from actors.shell import named
from cluster import wiring
from cluster.settings import GroupSettings, Settings, StateSettings, StoreSettings
from quantum_db.errors import Unavailable
from quantum_db.jobs.backends import BackendSpec
from quantum_db.lifecycle import Happening
from quantum_db.model import EntanglementGroup
from quantum_db.states.batches import happened
from tests.api.emulator_server import TOKEN, Emulator, emulator_process
from tests.qdrant_server import running_qdrant
from tests.redis_server import DURABLE, RedisServer, running_redis

TOKEN_ENV: Final = "QQC_NODES_TOKEN"
JOB_S: Final = 4.0
"""How long a job is at the provider: long enough for a node to be lost meanwhile."""
DEADLINE_S: Final = 120.0
WAIT_S: Final = 60.0
KILLS: Final = 3
HEALTH: Final = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,  # with 2, nodes of a busy machine are taken for dead
}
BELL: Final = 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];'
Json = dict[str, Any]


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return what the condition gives once it is true."""
    end_s = time.monotonic() + WAIT_S
    while not (found := condition()):
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} did not come true within {WAIT_S:g} s")
        time.sleep(0.05)
    return found


@dataclass
class Nodes:
    """The cluster, its pool, and what they stand on."""

    cluster: Cluster
    pool: QuantumPool
    emulator: Emulator
    folder: Path
    redis_url: str

    @property
    def logs(self) -> Path:
        """Where Ray's processes write."""
        return self.folder / "ray" / "session_latest" / "logs"

    def coordinator(self) -> psutil.Process:
        """Return the process of the job pool's coordinator, of which there is one."""
        until(lambda: len(processes_of("JobPool")) == 1, "there is one coordinator")
        return processes_of("JobPool")[0]

    def node_of(self, process: psutil.Process) -> Any:
        """Return the node that a worker process is on."""
        for node in self.cluster.list_all_nodes():
            if process.ppid() == raylet_of(node).pid:
                return node
        raise AssertionError(f"{process} is on no node")

    def ready(self) -> bool:
        return answers(self.pool._actor)

    def away_from_head(self, kind: str = "JobPool", name: str = POOL_NAME) -> psutil.Process:
        """Have an actor on a node that can be lost; Ray places it where it likes, anew at each restart."""
        for _ in range(20):
            until(lambda: len(processes_of(kind)) == 1, f"there is one {kind}")
            (process,) = processes_of(kind)
            if self.node_of(process) is not self.cluster.head_node:
                return process
            ray.kill(named(name), no_restart=False)
            until(lambda old=process: has_ended(old), "its end")
            until(lambda: answers(named(name)), f"{name} is ready")
        raise AssertionError(f"{name} stays on the head's node")

    def cut_power(self, node: Any) -> None:
        """Kill all that runs on a node, at once."""
        for worker in raylet_of(node).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        self.cluster.remove_node(node, allow_graceful=False)

    def submit(self, shots: int) -> Any:
        """Submit a job; return its future once it is at the provider."""
        before = len(self.emulator.ledger()["entries"])
        future = self.pool.submit(BELL, backend="far", shots=shots, deadline_s=DEADLINE_S)
        until(lambda: len(self.emulator.ledger()["entries"]) > before, "the provider has accepted it")
        return future

    def told(self, future: Any) -> Json:
        """Return what a job gave, and how often each job was accepted."""
        (counts,) = future.result(DEADLINE_S).counts
        times = self.emulator.ledger()["times_accepted"]
        entries = len(self.emulator.ledger()["entries"])
        return {"counts": dict(sorted(counts.items())), "accepted": sorted(times.values()), "entries": entries}


def answers(actor: Any) -> bool:
    """Say whether an actor is ready."""
    try:
        return bool(ray.get(actor.ready.remote(), timeout=WAIT_S))
    except (RayActorError, GetTimeoutError):
        return False


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_of(actor: str) -> list[psutil.Process]:
    """Return the living processes of a class of actors. Ages tell nothing: Ray starts them before it needs them."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(psutil.Error):
            if process.info["status"] != psutil.STATUS_ZOMBIE and f"ray::{actor}" in " ".join(process.cmdline()):
                found.append(process)
    return found


def raylet_of(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def lose_a_node(nodes: Nodes) -> Json:
    """The node with the coordinator loses its power while a job is at the provider."""
    process = nodes.away_from_head()
    lost = nodes.node_of(process)
    future = nodes.submit(500)
    began_s = time.monotonic()
    nodes.cut_power(lost)
    until(nodes.ready, "the pool is ready again")
    ready_s = time.monotonic() - began_s
    told = nodes.told(future)
    found = {**told, "ready_s": ready_s, "moved": nodes.node_of(nodes.coordinator()) is not lost}
    nodes.cluster.add_node(num_cpus=1)
    return found


def wake_an_orphan(nodes: Nodes) -> Json:
    """The node with the coordinator stands still until it has been replaced; then the old coordinator goes on."""
    orphan = nodes.away_from_head()
    raylet = raylet_of(nodes.node_of(orphan))
    future = nodes.submit(501)
    began_s = time.monotonic()
    for process in (raylet, orphan):
        process.suspend()
    unheard = nodes.pool.submit(BELL, backend="far", shots=601, deadline_s=DEADLINE_S)  # is with the one that sleeps
    until(lambda: len(processes_of("JobPool")) == 2, "there is another coordinator")
    until(nodes.ready, "the pool is ready again")
    ready_s = time.monotonic() - began_s
    told = {"first": nodes.told(future), "unheard": nodes.told(unheard)}
    orphan.resume()
    until(lambda: has_ended(orphan), "the orphan ends")
    last_words = [line for log in sorted(nodes.logs.glob(f"*{orphan.pid}*")) for line in log.read_text().splitlines()]
    raylet.send_signal(signal.SIGKILL)
    again = nodes.told(nodes.submit(502))
    its_own = [line for line in last_words if not line.startswith(("[", ":"))]
    return {**told, "ready_s": ready_s, "after": again, "last_words": its_own[-5:]}


def lose_the_control_process(nodes: Nodes) -> Json:
    """Ray's control process is killed; handles go on, and once it is back on Redis, what dies is restarted again."""
    head = nodes.cluster.head_node
    future = nodes.submit(503)
    head.kill_gcs_server()
    told = {"begun_before": nodes.told(future), "begun_while_dead": nodes.told(nodes.submit(504))}
    head.start_gcs_server()
    nodes.coordinator().kill()
    began_s = time.monotonic()
    until(nodes.ready, "the pool is ready again")
    ready_s = time.monotonic() - began_s
    return {**told, "after": nodes.told(nodes.submit(505)), "ready_s": ready_s}


def kill_who_has_files(nodes: Nodes) -> Json:
    """Actors whose files are on the head's disk are killed, and are there again on the same node with the same data."""
    nodes.pool.stop()
    data = nodes.folder / "data"
    settings = Settings(data_dir=data, states=StateSettings(shards=1), groups=GroupSettings(shards=1))
    actors = wiring._start_actors(settings)
    ray.get([actor.ready.remote() for actor in actors], timeout=WAIT_S)
    group = EntanglementGroup("kept", ("a", "b"), 0.5)
    ray.get(named("groups-0").create.remote(group), timeout=WAIT_S)
    places, began_s = [], time.monotonic()
    for _ in range(KILLS):
        for name in ("EntanglementRegistry", "StoreShard", "StateManager", "JobPool"):
            (process,) = processes_of(name)
            process.kill()
        for name in ("groups-0", "store", "states-0", "jobs"):
            until(lambda name=name: answers(named(name)), f"{name} is ready again")
        places += [nodes.node_of(one) is nodes.cluster.head_node for one in processes_of("EntanglementRegistry")]
        places += [nodes.node_of(one) is nodes.cluster.head_node for one in processes_of("StoreShard")]
    ready_s = (time.monotonic() - began_s) / KILLS
    kept = ray.get(named("groups-0").get.remote("kept"), timeout=WAIT_S)
    return {"at_home": places, "members": list(kept.entity_ids), "ready_s": ready_s}


def lose_who_is_in_redis(nodes: Nodes) -> Json:
    """States, groups and transactions are kept in Redis: what loses its node is there again on another, with its data.

    The store is a Qdrant server, of which only is asked here what its newest commit is.
    """
    with running_qdrant() as qdrant:
        return _lose_who_is_in_redis(nodes, qdrant.url)


def _lose_who_is_in_redis(nodes: Nodes, qdrant_url: str) -> Json:
    end_actors()
    url = nodes.redis_url
    settings = Settings(
        data_dir=nodes.folder / "empty",
        states=StateSettings(shards=1, journal_url=url),
        groups=GroupSettings(shards=1, journal_url=url),
        store=StoreSettings(kind="qdrant", url=qdrant_url, journal_url=url),
    )
    actors = wiring._start_actors(settings)
    ray.get([actor.ready.remote() for actor in actors], timeout=WAIT_S)
    group = EntanglementGroup("kept", ("a", "b"), 0.5)
    ray.get(named("groups-0").create.remote(group), timeout=WAIT_S)
    created = happened(Happening.CREATED, ["a", "b"], time.time(), 3.6e6, commit=7)
    ray.get(named("states-0").apply.remote(created), timeout=WAIT_S)
    before = ray.get(named("states-0").instances.remote("a"), timeout=WAIT_S)
    moved, took_s = {}, {}
    for kind, name in (("StateManager", "states-0"), ("EntanglementRegistry", "groups-0"), ("StoreShard", "store")):
        lost = nodes.node_of(nodes.away_from_head(kind, name))
        began_s = time.monotonic()
        nodes.cut_power(lost)
        until(lambda name=name: answers(named(name)), f"{name} is ready again")
        took_s[name] = time.monotonic() - began_s
        moved[name] = nodes.node_of(processes_of(kind)[0]) is not lost
        nodes.cluster.add_node(num_cpus=1)
    kept = ray.get(named("groups-0").get.remote("kept"), timeout=WAIT_S)
    after = ray.get(named("states-0").instances.remote("a"), timeout=WAIT_S)
    files = sorted(path.name for path in (nodes.folder / "empty").glob("*.sqlite"))
    found = {"moved": moved, "members": list(kept.entity_ids), "same_state": after == before, "files": files}
    return {**found, "took_s": took_s, "ready_s": max(took_s.values())}


def end_actors() -> None:
    """End the actors of a trial before, and wait until their names are free."""
    for name in ("circuits", POOL_NAME, "metrics", "access", "groups-0", "states-0", "store"):
        ray.kill(named(name))
        until(lambda name=name: is_free(name), f"the name {name} is free")


def is_free(name: str) -> bool:
    try:
        named(name)
    except Unavailable:
        return True
    return False


TRIALS: Final = (lose_a_node, wake_an_orphan, lose_the_control_process, kill_who_has_files, lose_who_is_in_redis)


@contextmanager
def three_nodes(redis: RedisServer, emulator: Emulator, folder: Path) -> Iterator[Nodes]:
    head = {"include_dashboard": False, "temp_dir": str(folder / "ray"), "_system_config": HEALTH}
    login = {"redis_username": "", "redis_password": redis.password}
    (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # where the library writes the head's address
    cluster = Cluster(initialize_head=True, head_node_args={**head, **login})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, namespace="quantum-db", log_to_driver=False, _redis_password=redis.password)
    far = BackendSpec("ionq", url=emulator.url, token_env=TOKEN_ENV, target="simulator", price_model="free")
    pool = QuantumPool.start(PoolSettings({"far": far}, redis.url, workers=2))
    try:
        yield Nodes(cluster, pool, emulator, folder, redis.url)
    finally:
        ray.shutdown()
        cluster.shutdown()


def main(found: Path, folder: Path) -> None:
    """Make all trials; write what each found as soon as it is known."""
    os.environ[TOKEN_ENV] = TOKEN
    with (
        running_redis(*DURABLE, folder=folder) as redis,
        emulator_process("--control", "--started-s", str(JOB_S), quiet=True) as emulator,
    ):
        os.environ["RAY_REDIS_ADDRESS"] = f"redis://127.0.0.1:{redis.port}"
        told: Json = {}
        with three_nodes(redis, emulator, folder) as nodes:
            for trial in TRIALS:
                told[trial.__name__] = trial(nodes)
                found.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
