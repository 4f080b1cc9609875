"""Problems (RFC 9457) as answers."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import Request, Response

PROBLEM: Final = "application/problem+json"


def problem_response(request: Request, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return a problem as the answer to a request, whose path and id it tells."""
    request_id = getattr(request.state, "request_id", "")
    content = {**body, "instance": request.url.path, "request_id": request_id}
    return Response(orjson.dumps(content), body["status"], headers, media_type=PROBLEM)
