"""How /openapi.json leads from one call to the next: links of answers, and examples of what paths name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Json = dict[str, Any]

_ENTITY: Final = {"entity_id": "$response.body#/id"}
_GROUP: Final = {"group_id": "$response.body#/group_id"}
_JOB: Final = {"job_id": "$response.body#/id"}
_COLLECTION: Final = {"name": "$response.body#/name"}
_KEY: Final = {"key_id": "$response.body#/id"}
LINKS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "insert": dict.fromkeys(("fetch", "update", "delete", "state"), _ENTITY),
    "update": dict.fromkeys(("fetch", "delete"), _ENTITY),
    "delete": dict.fromkeys(("fetch",), _ENTITY),
    "submit_job": dict.fromkeys(("job", "cancel_job"), _JOB),
    "cancel_job": dict.fromkeys(("job",), _JOB),
    "create_group": dict.fromkeys(("group", "update_group", "measure_group", "delete_group"), _GROUP),
    "delete_group": dict.fromkeys(("group",), _GROUP),
    "create_collection": dict.fromkeys(("collection", "drop_collection"), _COLLECTION),
    "drop_collection": dict.fromkeys(("collection",), _COLLECTION),
    "create_key": dict.fromkeys(("rotate_key", "revoke_key"), _KEY),
    "query": {"circuit": {"key": "$response.body#/refinement/circuit_key"}},
}
"""Call -> the calls that its answer leads to -> where their path's parameters are in that answer."""
EXAMPLES: Final[Mapping[str, Mapping[str, str]]] = {
    "/api/v2/vectors/": {"entity_id": "doc_1"},
    "/api/v2/states/": {"entity_id": "doc_1"},
    "/api/v2/entanglement/": {"group_id": "related_docs"},
    "/api/v2/collections/": {"name": "papers"},
    "/api/v2/backends/": {"name": "simulator"},
    "/api/v2/sessions/": {"session_id": "reading-1"},
    "/api/v2/jobs/": {"job_id": "job-5f0c8e1f6d1b4b6c8a3d2e4f5a6b7c8d"},
    "/api/v2/keys/": {"key_id": "k3v9x2m5p8q1"},
    "/api/v2/blocks/": {"address": "203.0.113.7"},
    "/api/v2/circuits/": {"key": "5f0c8e1f6d1b4b6c"},
}
"""What paths may name, by how the path begins: what the examples of bodies write, where the caller chooses it."""


def link(found: Json) -> None:
    """Add links and examples to an OpenAPI document whose operations' ids are the calls' names."""
    for path, methods in found["paths"].items():
        named = next((names for start, names in EXAMPLES.items() if path.startswith(start)), {})
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["example"] = named[parameter["name"]]
            links = LINKS.get(operation["operationId"])
            if links is not None:
                usual = min(operation["responses"])
                operation["responses"][usual]["links"] = {
                    call: {"operationId": call, "parameters": dict(places)} for call, places in links.items()
                }
