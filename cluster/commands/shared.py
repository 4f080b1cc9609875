"""What commands share: where the cluster is, which key is shown to it, and how answers are printed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table

from cluster.connect import running_cluster
from cluster.settings import load
from quantum_db.client.config import Config
from quantum_db.client.database import QuantumDB
from quantum_db.client.http import KEY_HEADER, decoded
from quantum_db.errors import InvalidRequest, Unavailable

TIMEOUT_S: Final = 70.0
PLAIN_WIDTH: Final = 150
"""Of tables that go into a file or a pipe."""

UrlOption = Annotated[
    str | None, typer.Option("--url", help="of the cluster; else that of the one with its data in data_dir")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="the YAML file that the cluster is served with")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON value, for programs")]
CollectionOption = Annotated[str, typer.Option("--collection", help="that it is about")]


def address(url: str | None, config: Path | None) -> str:
    """Return the URL of the cluster that is meant. Raises Unavailable where none runs."""
    return url or str(running_cluster(load(config).data_dir)["url"])


@contextmanager
def client(url: str | None, config: Path | None, collection: str = "default") -> Iterator[QuantumDB]:
    """Yield a client of the cluster that is meant. Raises Unavailable where none runs."""
    settings = Config(url=address(url, config), collection=collection, min_pool_size=1)
    with QuantumDB(settings).connect() as db:
        yield db


def rest(url: str, verb: str, path: str, body: object = None) -> Any:
    """Make a call that the client has not, and return its answer as JSON. Raises QuantumDBError."""
    return decoded(fetched(url, verb, path, body), url)


def fetched(url: str, verb: str, path: str, body: object = None) -> httpx.Response:
    """Make an HTTP request to a cluster with the user's key. Raises Unavailable."""
    key = Config(url=url).key
    headers = {} if key is None else {KEY_HEADER: key}
    try:
        return httpx.request(verb, url + path, headers=headers, json=body, timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        raise Unavailable(f"no cluster answers at {url}: {str(error) or type(error).__name__}") from error


def console() -> Console:
    """Return where tables are printed."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def print_json(value: object) -> None:
    """Print a value as one line of JSON; dataclasses as objects."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    sys.stdout.write(orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode() + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
    """Print rows for people; numbers are flushed right."""
    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for place, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table)


def cell(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return str(value)


def json_option(text: str, name: str) -> Mapping[str, Any]:
    """Return an option that is a JSON object. Raises InvalidRequest."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest.at(name, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest.at(name, "must be a JSON object")
    return value


def vector_option(text: str) -> list[float]:
    """Return an option that is a vector: numbers with commas, in brackets or not. Raises InvalidRequest."""
    try:
        return [float(number) for number in text.strip().strip("[]").split(",")]
    except ValueError:
        raise InvalidRequest.at("--vector", f"must be numbers with commas, like 0.1,0.2, not {text[:60]!r}") from None
