"""A real redis-server on a free loopback port, with a password, in memory only."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator

import redis

from cluster.runtime import free_port

START_TIMEOUT_S = 10.0


@contextlib.contextmanager
def running_redis() -> Iterator[str]:
    """Yield the URL of a server that runs for as long as the block."""
    port, password = free_port(), secrets.token_hex(8)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", password]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://:{password}@127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        with redis.Redis.from_url(url) as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                assert process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server did not answer"
                time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def key_count(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.dbsize())
