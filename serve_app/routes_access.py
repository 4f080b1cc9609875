"""The routes of API keys, blocked addresses and the audit log."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from quantum_db.access.bodies import KeyBody, RotateKeyBody
from quantum_db.access.ports import KeyDesk, WatchDesk
from quantum_db.requests import parse
from serve_app.exchange import json_body, json_response, principal_of
from serve_app.openapi import CREATE, SCOPED, WRITE, documented


def add_keys(app: FastAPI, keys: KeyDesk, max_body_bytes: int) -> None:
    """Add the routes."""

    @app.post("/api/v2/keys", **documented("create_key", 201, [*SCOPED, *CREATE]))
    async def create_key(request: Request) -> Response:
        """Make a key. The answer is the only time that it is shown whole; no other replica refuses it any more."""
        body = parse(KeyBody, await json_body(request, max_body_bytes))
        made = await keys.create(principal_of(request), body)
        request.state.about = made["id"]  # its name says less
        return json_response(made, 201, {"Location": f"/api/v2/keys/{made['id']}", "Cache-Control": "no-store"})

    @app.get("/api/v2/keys", **documented())
    async def list_keys(request: Request) -> Response:
        """List the tenant's keys, revoked and expired ones among them, without their secrets."""
        return json_response(await keys.list(principal_of(request)))

    @app.delete("/api/v2/keys/{key_id}", **documented(errors=[*SCOPED, *WRITE]))
    async def revoke_key(request: Request, key_id: str) -> Response:
        """Revoke a key for good; ``everywhere`` tells whether every replica has confirmed to refuse it."""
        return json_response(await keys.revoke(principal_of(request), key_id))

    @app.post("/api/v2/keys/{key_id}/rotate", **documented("rotate_key", errors=[*SCOPED, *WRITE]))
    async def rotate_key(request: Request, key_id: str) -> Response:
        """Give a key another secret, shown this once; the old one is good for ``grace_s`` more."""
        body = parse(RotateKeyBody, await json_body(request, max_body_bytes))
        made = await keys.rotate(principal_of(request), key_id, body.grace_s)
        return json_response(made, headers={"Cache-Control": "no-store"})


def add_watch(app: FastAPI, watch: WatchDesk) -> None:
    """Add the routes."""

    @app.get("/api/v2/blocks", **documented())
    async def list_blocks() -> Response:
        """List the addresses from which too many bad credentials came."""
        return json_response(await watch.blocks())

    @app.delete("/api/v2/blocks/{address:path}", **documented())
    async def lift_block(address: str) -> Response:
        """Lift a block."""
        return json_response(await watch.lift(address))

    @app.get("/api/v2/audit/head", **documented())
    async def audit_head() -> Response:
        """Return the number and the hash of the audit log's last line: keep it where the cluster cannot write."""
        return json_response(await watch.head())
