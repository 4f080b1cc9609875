"""Whether an answer is one that OpenAPI tells of: its operation, its status, and the kind of its problem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

ANY = re.compile(r"\\\{[^}]*\\\}")


def undocumented(schema: Mapping[str, Any], method: str, path: str, answer: httpx.Response) -> str | None:
    """Return what OpenAPI does not tell of an answer, None if it tells it all, or knows of no such operation."""
    operation = _operation(schema, method.lower(), path)
    if operation is None:
        return None
    told = operation["responses"].get(str(answer.status_code))
    where = f"{method} {path}: {answer.status_code}"
    if told is None:
        return f"{where} is not among {sorted(operation['responses'])}"
    if answer.status_code < 400:
        return None
    slugs = told["content"]["application/problem+json"]["examples"]
    slug = answer.json()["type"].rpartition(":")[2]
    return None if slug in slugs else f"{where} with {slug} is not among {sorted(slugs)}"


def _operation(schema: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any] | None:
    plain = path.partition("?")[0]
    found = [
        methods[method]
        for template, methods in schema["paths"].items()
        if method in methods and re.fullmatch(ANY.sub("(.+)", re.escape(template)), plain)
    ]
    exact = [
        methods[method] for template, methods in schema["paths"].items() if template == plain and method in methods
    ]
    return next(iter(exact or found[-1:]), None)
