"""Every REST route passes the gate before its handler runs: none can be added that does not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from quantum_db.access.policy import action_of
from serve_app.gate import Call, Gate


def behind(gate: Gate) -> type[APIRoute]:
    """Return the class of routes behind a gate. The action of a route is that of its function's name."""

    class GatedRoute(APIRoute):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.openapi_extra = {"x-action": action_of(self.name), **(self.openapi_extra or {})}

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            action = action_of(self.name)

            async def gated(request: Request) -> Response:
                def about() -> str:
                    return "/".join(map(str, request.path_params.values())) or str(getattr(request.state, "about", ""))

                call = Call(action, request.headers, peer_of(request), request.state.request_id, about)
                async with gate.admitted(call) as principal:
                    request.state.principal, request.state.action = principal, action
                    return await handle(request)

            return gated

    return GatedRoute


def peer_of(request: Request) -> str:
    """Return the caller's address, as the proxy in front tells it."""
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return told or (request.client.host if request.client is not None else "")
