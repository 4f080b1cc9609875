"""Lives of the writing process, one after another on the same data, each ended by SIGKILL, while clients write."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from quantum_db.commits.operations import Request, Transaction
from quantum_db.errors import Conflict, CorruptData, InvalidRequest, NotFound, QuantumDBError
from tests.chaos.commit_history import Asked, History, Seen
from tests.chaos.commit_messages import Answer, Shown, answer_of, request_line
from tests.chaos.commit_process import ENTITIES, GROUPS, RARE, STEPS, Life, run
from tests.chaos.commit_requests import Requests
from tests.chaos.forks import FORKS

CLIENTS = 4
LIFE_S = 2.0
COMPACTION_S = 8.0
ANSWER_S = 20.0
START_S = 30.0


class Connection:
    """One client's way to the process. Any failure closes it; the next call opens it again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._lines: BinaryIO | None = None

    def call(self, request: Request | str) -> Answer:
        """Return the answer. Raises OSError when there is none, because the process is gone."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(ANSWER_S)
                self._socket.connect(self._path)
                self._lines = self._socket.makefile("rb")
            assert self._lines is not None
            self._socket.sendall(request_line(request))
            line = self._lines.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the process is gone")
            return answer_of(line)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._lines = None


class Trial:
    """A folder, its clients, and everything that they saw."""

    def __init__(self, folder: Path, seed: int, journal_url: str = "", plant: str = "") -> None:
        self.history, self.log, self.problems = History(), Counter[str](), list[str]()
        self._life = Life(str(folder), journal_url or f"sqlite:///{folder / 'commits.sqlite'}", plant=plant)
        self._chance, self._seed = random.Random(seed), seed
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def run(self, kills: int) -> None:
        """Kill the process so often, look at everything after each start, and check it all at the end."""
        with self._clients():
            for _ in range(kills):
                self._live_once()
        with self._process(self._life):
            self._see(Connection(self._life.socket), "open")
            self._see(Connection(self._life.socket), "read")
        self.problems += self.history.check()

    # The process

    def _live_once(self) -> None:
        by_itself = self._chance.random() < 0.65
        step = self._chance.choice(STEPS) if by_itself else ""
        nth = 1 if step.endswith("compaction") else self._chance.randint(1, 3 if step in RARE else 20)
        with self._process(replace(self._life, step=step, nth=nth)) as process:
            if by_itself or self._chance.random() < 0.8:  # else it is killed while it starts
                self._see(Connection(self._life.socket), "read", process)
            longest_s = COMPACTION_S if step.endswith("compaction") else LIFE_S
            process.join(longest_s if by_itself else self._chance.uniform(0.0, 0.3))
            self.log[step if process.exitcode is not None else "at a random moment"] += 1

    @contextlib.contextmanager
    def _process(self, life: Life) -> Iterator[Any]:
        process = FORKS.Process(target=run, args=(life,), daemon=True)
        process.start()
        try:
            yield process
        finally:
            process.kill()
            process.join()

    def _see(self, connection: Connection, what: str, process: Any = None) -> None:
        """Ask until there is an answer, or the process has ended."""
        deadline = time.monotonic() + START_S
        while process is None or process.is_alive():
            with contextlib.suppress(OSError):
                answer = self._ask(connection, what)
                if not isinstance(answer, QuantumDBError):
                    if what == "open" and answer != 0:
                        self.problems.append(f"stuck: {answer} transactions are open after the start")
                    connection.close()
                    return
            assert time.monotonic() < deadline, "the process does not answer"
            time.sleep(0.005)

    # Clients, each in a thread of its own

    @contextlib.contextmanager
    def _clients(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._write, args=(client,)) for client in range(CLIENTS)]
        threads.append(threading.Thread(target=self._look))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(2.0 * ANSWER_S)
            assert not any(thread.is_alive() for thread in threads)

    def _write(self, client: int) -> None:
        connection, known = Connection(self._life.socket), dict[str, int]()
        requests = Requests(
            np.random.default_rng([self._seed, client]), client, CLIENTS, entities=ENTITIES, groups=GROUPS
        )
        while not self._stop.is_set():
            tag, request = requests.next(known)
            with self._lock:
                asked = self.history.ask(tag, request, time.monotonic())
            self._write_one(connection, asked)
            if asked.outcome == "done":
                known.update((one, asked.commits[0]) for one, there in asked.writes.items() if there)
        connection.close()

    def _write_one(self, connection: Connection, asked: Asked) -> None:
        """Ask, and where that is safe ask again, until it is known what became of it."""
        while not self._stop.is_set():
            try:
                answer = connection.call(asked.request)
            except OSError:
                answer = None
            if isinstance(answer, Conflict | NotFound | InvalidRequest):
                self.log["refused"] += 1
                return asked.refused(time.monotonic())
            if isinstance(answer, Mapping):
                self.log["done"] += 1
                return asked.done(int(answer["commit"]), time.monotonic())
            if not isinstance(asked.request, Transaction):
                self.log["unclear"] += 1
                return None
            self.log["asked again"] += 1
            self._stop.wait(0.01)
        return None

    def _look(self) -> None:
        connection = Connection(self._life.socket)
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self._ask(connection, "read")
            self._stop.wait(0.03)
        connection.close()

    def _ask(self, connection: Connection, what: str) -> Answer:
        begun_at = time.monotonic()
        answer = connection.call(what)
        if isinstance(answer, CorruptData):
            self.problems.append(f"malformed: {answer.detail}")
        elif isinstance(answer, Shown):
            with self._lock:
                self.history.seen.append(Seen(begun_at, time.monotonic(), answer.entities, answer.groups))
            self.log["looked"] += 1
            if answer.count != sum(entity is not None for entity in answer.entities.values()):
                self.problems.append(f"malformed: the store counts {answer.count} entities, and has others")
        return answer
