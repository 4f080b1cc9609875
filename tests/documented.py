"""Whether an answer is one that OpenAPI tells of: its status, its media type, its JSON, and the kind of its problem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from serve_app.problems import PROBLEM

ANY = re.compile(r"\\\{[^}]*\\\}")


def undocumented(schema: Mapping[str, Any], method: str, path: str, answer: httpx.Response) -> str | None:
    """Return what OpenAPI does not tell of an answer, None if it tells it all, or knows of no such operation."""
    operation = _operation(schema, method.lower(), path)
    if operation is None:
        return None
    told = operation["responses"].get(str(answer.status_code))
    if told is None:
        missing: str | None = f" is not among {sorted(operation['responses'])}"
    else:
        missing = _missing(schema, told["content"], answer)
    return None if missing is None else f"{method} {path}: {answer.status_code}{missing}"


def _missing(schema: Mapping[str, Any], content: Mapping[str, Any], answer: httpx.Response) -> str | None:
    """Return what is not told of an answer's content."""
    kind = answer.headers.get("content-type", "")
    if kind not in content:
        return f" with {kind} is not among {sorted(content)}"
    if "json" not in kind:
        return None
    body = answer.json()
    if kind == PROBLEM and (slug := body["type"].rpartition(":")[2]) not in content[kind]["examples"]:
        return f" with {slug} is not among {sorted(content[kind]['examples'])}"
    return _wrong(schema, content[kind]["schema"], body)


def _wrong(schema: Mapping[str, Any], part: Mapping[str, Any], value: Any) -> str | None:
    """Return what is wrong with a value by a part of the schema, None if nothing is."""
    checker = Draft202012Validator({**part, "components": schema["components"]})
    found = next(checker.iter_errors(value), None)
    return None if found is None else f" at {found.json_path}: {found.message[:300]}"


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
