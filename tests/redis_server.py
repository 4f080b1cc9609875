"""A real redis-server on a free loopback port, with a password; in memory only, unless it is given a folder."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import redis

from cluster.runtime import free_port

START_TIMEOUT_S = 10.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
"""What a journal needs; with a folder."""


class RedisServer:
    """A server that can be killed and started again at the same address, on the same data."""

    def __init__(self, *options: str, folder: Path | None = None, password: str | None = None) -> None:
        self.port, self.password = free_port(), password or secrets.token_hex(8)
        self.url = f"redis://:{quote(self.password)}@127.0.0.1:{self.port}"
        self._command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--requirepass", self.password, *options]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more_options: str, wait: bool = True) -> None:
        """Start it; wait until it has loaded its data and answers."""
        self._process = subprocess.Popen([*self._command, *more_options], cwd=self._folder, stdout=subprocess.DEVNULL)
        if wait:
            self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                assert self._process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server did not answer"
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_TIMEOUT_S)

    def stop(self) -> None:
        """SIGTERM. Idempotent."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def key_count(self) -> int:
        with self.client() as client:
            return int(client.dbsize())


@contextlib.contextmanager
def running_redis(*options: str, folder: Path | None = None) -> Iterator[RedisServer]:
    """Yield a server that runs for as long as the block."""
    server = RedisServer(*options, folder=folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
