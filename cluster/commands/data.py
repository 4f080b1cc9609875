"""Commands about data: insert, query, import, export, backup, restore."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cluster import backups
from cluster.commands.shared import (
    CollectionOption,
    ConfigOption,
    JsonOption,
    UrlOption,
    address,
    client,
    json_option,
    print_json,
    print_table,
    vector_option,
)
from cluster.exporting import export
from cluster.importing import Imported, Target, file_source, import_rows
from cluster.settings import load
from quantum_db.client.results import Results
from quantum_db.errors import InvalidRequest
from quantum_db.transfer.formats import FileFormat
from quantum_db.transfer.qdrant_source import QdrantSource

STATE_SUFFIX: Final = ".import-state"
QDRANT_KEY_ENV: Final = "QDRANT_API_KEY"

VectorOption = Annotated[str, typer.Option("--vector", help="numbers with commas, like 0.1,0.2")]


class ExportFormat(StrEnum):
    """Formats of files."""

    jsonl = "jsonl"
    parquet = "parquet"


class ContextsFrom(StrEnum):
    """What contexts are made of."""

    named_vectors = "named-vectors"


def insert(
    entity_id: Annotated[str, typer.Argument(metavar="ID")],
    vector: VectorOption,
    context: Annotated[list[str] | None, typer.Option(help="name=weight; may be given several times")] = None,
    metadata: Annotated[str | None, typer.Option(help="a JSON object")] = None,
    coherence_time_ms: Annotated[float | None, typer.Option(help="how long its coherent part lasts")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Write one entity, replacing one with the same id."""
    contexts = [_weighted(text) for text in context or ()]
    body = None if metadata is None else json_option(metadata, "--metadata")
    numbers = vector_option(vector)
    with client(url, config, collection) as db:
        written = db.insert_sync(
            id=entity_id,
            vector=numbers,
            contexts=contexts or None,
            metadata=body,
            coherence_time_ms=coherence_time_ms,
        )
    if as_json:
        print_json(written)
    else:
        print(f"{written.id} is written, version {written.version}")


def query(
    vector: VectorOption,
    context: Annotated[str | None, typer.Option(help="the one that is asked")] = None,
    top_k: Annotated[int, typer.Option(help="hits at most")] = 10,
    mode: Annotated[str | None, typer.Option(help="classical, precise, balanced or exploratory")] = None,
    filter_by: Annotated[str | None, typer.Option("--filter", help="a JSON object in Qdrant's shape")] = None,
    backend: Annotated[str | None, typer.Option(help="that runs the circuits")] = None,
    always: Annotated[bool, typer.Option("--always", help="run circuits also where the order is clear")] = False,
    tunneling: Annotated[bool, typer.Option("--tunneling", help="choose the hits as a diverse set")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Find the entities nearest to a vector, in a context or in none."""
    numbers, only = vector_option(vector), None if filter_by is None else json_option(filter_by, "--filter")
    with client(url, config, collection) as db:
        found = db.query_sync(
            numbers,
            context=context,
            top_k=top_k,
            mode=mode,
            filter=only,
            backend=backend,
            refine="always" if always else None,
            enable_tunneling=tunneling or None,
        )
    if as_json:
        print_json(found)
    else:
        _print_hits(found)


def import_command(
    file: Annotated[Path | None, typer.Argument(help=".jsonl, .parquet, .npy or .npz")] = None,
    ids: Annotated[Path | None, typer.Option(help="for a .npy: a .npy or .json with one id for each vector")] = None,
    from_qdrant: Annotated[
        str | None, typer.Option(metavar="URL", help="or a folder of qdrant-client's local mode")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="of the Qdrant server or folder")] = None,
    contexts_from: Annotated[ContextsFrom | None, typer.Option(help="make each named vector a context")] = None,
    state: Annotated[Path | None, typer.Option(help="where to keep how far it is; else beside the file")] = None,
    skip_refused: Annotated[bool, typer.Option("--skip-refused", help="list refused rows, and go on")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write entities into a running cluster; after an interruption the same command goes on."""
    named = str(load(config).data_dir.resolve())
    target = Target(address(url, config), url or named)
    if file is not None:
        if from_qdrant is not None or collection or contexts_from:
            raise InvalidRequest("name a file, or --from-qdrant with --collection, not both")
        kept = state or file.with_name(f"{file.name}{STATE_SUFFIX}")
        done = import_rows(file_source(file, ids), target, kept, skip_refused=skip_refused)
    else:
        if from_qdrant is None or not collection or ids is not None:
            raise InvalidRequest("name a file, or --from-qdrant with --collection and without --ids")
        kept = state or Path(f"{collection}{STATE_SUFFIX}")
        key = os.environ.get(QDRANT_KEY_ENV)
        source = QdrantSource(from_qdrant, key, collection, named_vectors=contexts_from is not None)
        try:
            done = import_rows(source, target, kept, skip_refused=skip_refused)
        finally:
            source.close()
    _tell_import(done, as_json)


def export_command(
    file: Path,
    file_format: Annotated[
        ExportFormat | None, typer.Option("--format", help="else the end of the file's name tells it")
    ] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all entities of a running cluster into a file."""
    kind: FileFormat | None = None if file_format is None else file_format.value
    done = export(file, kind, address(url, config))
    if as_json:
        print_json({"file": str(file), "entities": done.entities, "bytes": done.bytes})
        return
    rate = done.entities / done.taken_s
    print(f"{done.entities:,} entities are in {file} ({done.bytes:,} bytes, {rate:,.0f} rows/s)")


def backup(directory: Path, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Copy a running cluster into a new folder."""
    done = backups.back_up(directory, load(config).data_dir)
    if as_json:
        print_json({"directory": str(directory), "files": done.files, "bytes": done.bytes, "pause_s": done.pause_s})
        return
    told = f"{done.files} files, {done.bytes:,} bytes, are in {directory}"
    print(f"{told}; queries and writes waited {done.pause_s:.2f} s")


def restore(directory: Path, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make an empty data_dir from a backup, while no cluster runs."""
    settings = load(config)
    manifest = backups.restore(directory, settings)
    if as_json:
        told = {"created_at": manifest.created_at, "product": manifest.product, "files": len(manifest.files)}
        print_json({"data_dir": str(settings.data_dir), **told})
        return
    print(f"the backup of {manifest.created_at} ({manifest.product}) is restored in {settings.data_dir}")


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(insert)
    app.command()(query)
    app.command("import")(import_command)
    app.command("export")(export_command)
    app.command()(backup)
    app.command()(restore)


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    try:
        if equals and name:
            return name, float(weight)
    except ValueError:
        pass
    raise InvalidRequest.at("--context", f"must be name=weight, like finance=0.7, not {text[:60]!r}")


def _print_hits(found: Results) -> None:
    ran: Any = found.refinement
    rows = [
        (
            rank,
            hit.id,
            hit.context,
            hit.classical_score,
            hit.score,
            f"{hit.interval.low:.4f} to {hit.interval.high:.4f}" if hit.interval else None,
        )
        for rank, hit in enumerate(found, start=1)
    ]
    spent = f"{ran.circuits} circuits on {ran.backend}, {ran.shots:,} shots, ${ran.cost_usd:,.2f}"
    columns = ("rank", "id", "context", "classical", "score", "interval")
    print_table(
        f"{len(found)} of {found.candidates} candidates, {ran.provenance}", columns, rows, spent if ran.ran else ran.why
    )


def _tell_import(done: Imported, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    print(f"{done.written:,} entities are written ({done.rows_per_s:,.0f} rows/s)")
    if done.refused:
        print(f"{done.refused:,} rows were refused; they are listed in {done.refused_in}")
