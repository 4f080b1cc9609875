"""Every REST route passes the gate before its handler runs: none can be added that does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from quantum_db.access.policy import action_of
from quantum_db.errors import InvalidRequest
from quantum_db.near import near_name
from serve_app.gate import Call, Gate

EVERYWHERE: Final = "collection"
"""A query parameter that every route takes: who always works in one collection says so without a thought."""


def behind(gate: Gate) -> type[APIRoute]:
    """Return the class of routes behind a gate. The action of a route is that of its function's name."""

    class GatedRoute(APIRoute):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.openapi_extra = {"x-action": action_of(self.name), **(self.openapi_extra or {})}
            by_hand = [one["name"] for one in self.openapi_extra.get("parameters", ()) if one["in"] == "query"]
            declared = [one.alias for one in self.dependant.query_params]
            self._query = frozenset((EVERYWHERE, *by_hand, *declared))
            self._strict = InvalidRequest.status in self.responses  # probes may be asked with anything

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = self.endpoint if _takes_only_a_request(self.dependant) else super().get_route_handler()
            action = action_of(self.name)

            async def gated(request: Request) -> Response:
                def about() -> str:
                    return "/".join(map(str, request.path_params.values())) or str(getattr(request.state, "about", ""))

                call = Call(action, request.headers, peer_of(request), request.state.request_id, about)
                async with gate.admitted(call) as principal:
                    request.state.principal, request.state.action = principal, action
                    if self._strict and request.scope["query_string"]:
                        check_query(request, self._query)
                    answer: Response = await handle(request)
                    return answer

            return gated

    return GatedRoute


def _takes_only_a_request(dependant: Dependant) -> bool:
    """Return whether FastAPI has nothing to find out for a handler: then the handler can be called as it is."""
    declared = (
        dependant.path_params,
        dependant.query_params,
        dependant.header_params,
        dependant.cookie_params,
        dependant.body_params,
        dependant.dependencies,
    )
    others = (dependant.response_param_name, dependant.background_tasks_param_name, dependant.websocket_param_name)
    return not any(declared) and not any(others) and dependant.request_param_name == "request"


def check_query(request: Request, known: frozenset[str]) -> None:
    """Refuse query parameters that a route does not have, or that stand twice. Raises InvalidRequest."""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        told = name[:64]
        if name not in known:
            near = near_name(told, sorted(known)) or f"; there are {', '.join(sorted(known))}"
            raise InvalidRequest.at(told, f"is no query parameter of this call{near}")
        if times > 1:
            raise InvalidRequest.at(told, f"stands {times} times in the query; give it once")


def peer_of(request: Request) -> str:
    """Return the caller's address, as the proxy in front tells it."""
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return told or (request.client.host if request.client is not None else "")
