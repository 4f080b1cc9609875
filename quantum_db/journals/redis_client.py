"""Runs the scripts of the Redis journal on a server or a cluster: bounded waits, one repetition, errors as our own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from quantum_db.errors import InvalidSettings, QuantumDBError, Unavailable
from quantum_db.journals.records import damaged

Durability = Literal["checked", "trusted"]
Argument = str | bytes | int
T = TypeVar("T")

_DURABLE: Final = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
_REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError, NoPermissionError)


class RedisClient:
    """One server, or the node of a cluster that holds ``key``. Thread-safe.

    Its methods raise Unavailable when there is no answer or one that tells of a passing state (loading, read-only, out
    of memory), InvalidSettings when the user may not do it, and CorruptData when a key holds something else than the
    journal wrote. No error has a password in it, nor the redis-py error that might.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, durability: Durability) -> None:
        """Connect, find out whether it is a cluster, and check that what it acknowledges is on disk.

        Args:
            key: all keys of the scripts have its hash tag.
            timeout_s: bounds connecting and each answer.
            durability: see ``RedisJournal``.
        """
        options = _options(url, timeout_s)
        self._password = str(options.get("password") or "")
        self.place = f"redis://{options['host']}:{options['port']}/{options.get('db', 0)}"
        self._client = self._answer(lambda: _connected(options))
        if durability == "checked":
            self._check_durability(key)

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Run a script that is safe to repeat; repeat it once when its answer is lost."""
        sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()

        def step() -> list[Any]:
            try:
                answer: Any = self._client.evalsha(sha, len(keys), *keys, *arguments)
            except NoScriptError:
                answer = self._client.eval(script, len(keys), *keys, *arguments)
            assert isinstance(answer, list)
            return answer

        return self._answer(step)

    def get_or_set(self, key: str, value: str) -> bytes:
        """Set a key that is not there; return what it holds then."""

        def step() -> bytes:
            self._client.set(key, value, nx=True)
            held: Any = self._client.get(key)
            return bytes(held)

        return self._answer(step)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def _check_durability(self, key: str) -> None:
        needs = ", ".join(f"{name} {value}" for name, value in _DURABLE.items())
        found = self._answer(lambda: _configuration(self._client, key))
        if found is None:
            raise InvalidSettings(
                f"the journal at {self.place} needs {needs}, but the server does not let its CONFIG be read; "
                'where that is known to be so, open the journal with durability "trusted"'
            )
        held = {name: found.get(name) for name in _DURABLE}
        if held != _DURABLE:
            has = ", ".join(f"{name} {value}" for name, value in held.items())
            raise InvalidSettings(f"the Redis at {self.place} has {has}; set {needs}: a journal needs them")
        policy = str(found.get("maxmemory-policy"))
        if policy.startswith("allkeys"):
            raise InvalidSettings(
                f"the Redis at {self.place} has maxmemory-policy {policy}, which may drop a journal; set noeviction"
            )

    def _answer(self, step: Callable[[], T]) -> T:
        try:
            try:
                return step()
            except (redis.ConnectionError, redis.TimeoutError):
                return step()
        except (RedisError, RedisClusterException) as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> QuantumDBError:
        text = str(error).replace(self._password, "***") if self._password else str(error)
        if isinstance(error, _REFUSED):
            return InvalidSettings(f"the Redis at {self.place} refuses this user or password: {text}")
        if "WRONGTYPE" in text:
            return damaged(self.place, f"a key of it holds something else ({text})")
        return Unavailable(f"the Redis at {self.place} does not do its work: {text}", retry_after_s=1.0)


def _options(url: str, timeout_s: float) -> dict[str, Any]:
    try:
        options = {"host": "localhost", "port": 6379, **parse_url(url)}  # type: ignore[no-untyped-call]
    except ValueError:  # its message may hold a part of the password
        raise InvalidSettings("the Redis URL is not valid; it must be like redis://:password@host:6379/0") from None
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    return options | {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "decode_responses": False,
        "protocol": 2,
    }


def _connected(options: dict[str, Any]) -> redis.Redis | RedisCluster:
    retry = Retry(NoBackoff(), 0)  # what may be repeated, and how often, is decided above
    try:
        client = redis.Redis(retry=retry, **options)
    except TypeError as error:
        raise InvalidSettings(f"the Redis URL has an unknown option: {error}") from None
    information: Any = client.info("cluster")
    if not information.get("cluster_enabled"):
        return client
    client.close()
    rest = {name: value for name, value in options.items() if name not in ("host", "port", "db")}
    node = ClusterNode(options["host"], options["port"])  # type: ignore[no-untyped-call]
    return RedisCluster(startup_nodes=[node], retry=retry, **rest)


def _configuration(client: redis.Redis | RedisCluster, key: str) -> dict[str, Any] | None:
    """Return the settings of the node that holds the key, None when it does not tell them."""
    target = {}
    if isinstance(client, RedisCluster):
        target["target_nodes"] = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
    try:
        found: Any = client.config_get("*", **target)
    except ResponseError as error:
        if str(error).startswith("BUSY"):
            raise
        return None
    return dict(found)
