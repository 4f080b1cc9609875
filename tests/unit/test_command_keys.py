"""The commands about keys against a server that notes what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.unit.test_command_line import run

KEY = {"id": "0123456789ab", "prefix": "qdb_0123456789ab", "name": "nightly", "role": "writer", "tenant": "acme"}
SECRET = "qdb_0123456789ab_" + "f0" * 32


@dataclass
class Served:
    url: str = ""
    asked: list[tuple[str, str, str | None, Any]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    noted = Served()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            noted.asked.append((self.command, self.path, self.headers.get("api-key"), body))
            made = {**KEY, "status": "active"}
            if self.command == "GET":
                content: Any = {"keys": [made]}
            else:
                content = {**made, "key": SECRET} if self.command == "POST" else {**made, "status": "revoked"}
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names of the library

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        noted.url = f"http://127.0.0.1:{server.server_port}"
        yield noted
        server.shutdown()
        thread.join()


def keys(served: Served, *arguments: str) -> str:
    result = run("keys", *arguments, "--url", served.url, QUANTUM_DB_KEY="the-admins")
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_each_command_is_one_call_with_the_users_key(served: Served) -> None:
    assert "nightly" in keys(served, "list")
    assert json.loads(keys(served, "list", "--json"))["keys"][0]["role"] == "writer"
    made = keys(served, "create", "nightly", "--role", "writer", "--tenant", "acme", "--days", "2")
    assert made == f"qdb_0123456789ab, writer of acme; the key is shown this once:\n{SECRET}\n"
    assert SECRET in keys(served, "rotate", "0123456789ab", "--grace", "60")
    assert keys(served, "revoke", "0123456789ab") == "0123456789ab is revoked\n"
    path = "/api/v2/keys"
    body = {"name": "nightly", "role": "writer", "tenant": "acme", "expires_in_s": 172_800.0}
    assert served.asked == [
        ("GET", path, "the-admins", None),
        ("GET", path, "the-admins", None),
        ("POST", path, "the-admins", body),
        ("POST", f"{path}/0123456789ab/rotate", "the-admins", {"grace_s": 60.0}),
        ("DELETE", f"{path}/0123456789ab", "the-admins", None),
    ]
