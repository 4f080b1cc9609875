"""A PostgreSQL of one's own: a new cluster in a temporary folder, on a free loopback port, gone after the block.

The server does not run as root: where root starts it, it runs as ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
OPTIONS: Final = {
    "fsync": "off",  # the data is thrown away
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "autovacuum": "off",  # statistics change when a test or a benchmark says ANALYZE, and not in the middle of it
}
READER: Final = "reader"


@dataclass(frozen=True, slots=True)
class PrivatePostgres:
    """A server that runs.

    Attributes:
        admin_url: of a superuser, who may fill the database ``postgres``.
        reader_url: of the role ``reader``, which owns nothing and may read what is in ``public``.
    """

    admin_url: str
    reader_url: str


def binary(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, None where it is not installed."""
    if found := shutil.which(name):
        return found
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(versions[-1]) if versions else None


@contextlib.contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """Yield a server that runs for as long as the block.

    Raises:
        RuntimeError: PostgreSQL is not installed (see ``scripts/install_postgres.sh``), or does not start.
    """
    initdb, postgres = binary("initdb"), binary("postgres")
    if initdb is None or postgres is None:
        raise RuntimeError("PostgreSQL is not installed: run scripts/install_postgres.sh")
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        password = secrets.token_hex(16)
        _make_cluster(initdb, folder, password, account)
        port = _free_port()
        options = [f"-c{name}={value}" for name, value in OPTIONS.items()]
        command = [postgres, "-D", str(folder / "data"), "-p", str(port), "-k", str(folder), *options]
        log = (folder / "log").open("wb")
        with log, _started(command, account, folder, log.fileno()) as process:
            admin_url = f"postgresql://admin:{password}@127.0.0.1:{port}/postgres"
            _wait(process, admin_url, folder / "log")
            yield PrivatePostgres(admin_url, _make_reader(admin_url, port))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> str | None:
    """Return whom to run as, None for oneself."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _make_cluster(initdb: str, folder: Path, password: str, account: str | None) -> None:
    secret = folder / "password"
    secret.write_text(password, encoding="ascii")
    secret.chmod(0o600)
    if account is not None:
        for path in (folder, secret):
            shutil.chown(path, account)
    command = [initdb, "-D", str(folder / "data"), "-U", "admin", "-A", "scram-sha-256", f"--pwfile={secret}"]
    command += ["-E", "UTF8", "--locale=C", "--no-sync"]
    made = subprocess.run(  # noqa: S603  (found by ``binary``)
        command, user=account, cwd=folder, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    if made.returncode != 0:
        raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
    secret.unlink()


@contextlib.contextmanager
def _started(command: list[str], account: str | None, folder: Path, log: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, user=account, cwd=folder, stdout=log, stderr=log)  # noqa: S603
    try:
        yield process
    finally:
        process.send_signal(3)  # SIGQUIT ends it at once; nothing of it is kept
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _make_reader(admin_url: str, port: int) -> str:
    password = secrets.token_hex(16)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{password}' NOSUPERUSER NOCREATEDB NOCREATEROLE")
        connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}")
    return f"postgresql://{READER}:{password}@127.0.0.1:{port}/postgres"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
