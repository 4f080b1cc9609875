"""Commands about groups, jobs and costs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.shared import (
    CollectionOption,
    ConfigOption,
    JsonOption,
    UrlOption,
    client,
    json_option,
    print_json,
    print_table,
)
from quantum_db.client.results import Job
from quantum_db.errors import InvalidRequest
from quantum_db.model import EntanglementGroup

groups = typer.Typer(no_args_is_help=True, help="Entanglement groups.")
jobs = typer.Typer(no_args_is_help=True, help="Quantum jobs.")

GroupId = Annotated[str, typer.Argument(metavar="GROUP_ID")]
JobId = Annotated[str, typer.Argument(metavar="JOB_ID")]
LimitOption = Annotated[int, typer.Option(help="at most so many")]


@groups.command("list")
def list_groups(
    member: Annotated[str | None, typer.Option(help="only those that it is in")] = None,
    limit: LimitOption = 100,
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """List groups by id."""
    with client(url, config, collection) as db:
        found, following = db.groups_sync(member=member, limit=limit)
    _print_groups(found, as_json, following)


@groups.command("show")
def show_group(
    group_id: GroupId,
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Show a group."""
    with client(url, config, collection) as db:
        group = db.group_sync(group_id)
    if as_json:
        print_json(group)
    else:
        _print_groups((group,), as_json, None)


@groups.command("create")
def create_group(
    group_id: GroupId,
    members: Annotated[list[str], typer.Argument(metavar="ENTITY_ID...")],
    strength: Annotated[float, typer.Option(help="of the correlation, 0 to 1")],
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Entangle stored entities."""
    with client(url, config, collection) as db:
        group = db.create_entangled_group_sync(group_id, members, strength)
    if as_json:
        print_json(group)
    else:
        print(f"{group.group_id} entangles {len(group.entity_ids)} entities, version {group.version}")


@groups.command("measure")
def measure_group(
    group_id: GroupId,
    shots: Annotated[int | None, typer.Option(help="of the circuit")] = None,
    backend: Annotated[str | None, typer.Option(help="that runs it")] = None,
    chsh: Annotated[bool, typer.Option("--chsh", help="add the Bell test of the first two members")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Run a group's circuit and tell the correlations of its members."""
    options = {name: value for name, value in (("shots", shots), ("backend", backend)) if value is not None}
    with client(url, config, collection) as db:
        found = db.measure_correlation_sync(group_id, chsh=chsh, **options)
    if as_json:
        print_json(found)
        return
    rows: list[Sequence[object]] = [("mean", found.mean.value, _interval(found.mean.interval))]
    rows += [(pair.entity_ids, pair.estimate.value, _interval(pair.estimate.interval)) for pair in found.pairs]
    told = f"{found.shots:,} shots on {found.backend}, {found.provenance}, ${found.cost_usd:,.2f}"
    if found.chsh is not None:
        told += f"; S = {found.chsh.value:.3f} ({_interval(found.chsh.interval)})"
    print_table(group_id, ("pair", "<ZZ>", "interval"), rows, told)


@groups.command("delete")
def delete_group(
    group_id: GroupId,
    url: UrlOption = None,
    config: ConfigOption = None,
    collection: CollectionOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Delete a group."""
    with client(url, config, collection) as db:
        db.delete_group_sync(group_id)
    if as_json:
        print_json({"group_id": group_id, "deleted": True})
    else:
        print(f"{group_id} is deleted")


@jobs.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="queued, completed, failed or canceled")] = None,
    limit: LimitOption = 100,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with client(url, config) as db:
        found, following = db.jobs_sync(status=status, limit=limit)
    if as_json:
        print_json({"jobs": found, "next": following})
    else:
        _print_jobs("jobs", found)


@jobs.command("show")
def show_job(job_id: JobId, url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show a job, with its result once it has one."""
    with client(url, config) as db:
        job = db.job_sync(job_id)
    if as_json:
        print_json(job)
        return
    _print_jobs(job_id, [job])
    if job.result is not None:
        print_json(job.result)


@jobs.command("submit")
def submit_job(
    file: Annotated[Path, typer.Argument(help="a JSON body as for POST /api/v2/jobs; - reads it from the input")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error
    with client(url, config) as db:
        job = db.submit_job_sync(**json_option(text, str(file)))
    if as_json:
        print_json(job)
    else:
        print(f"{job.id} is {job.status} on {job.backend}; quantum-db jobs show {job.id} tells how it ends")


@jobs.command("cancel")
def cancel_job(job_id: JobId, url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Cancel a job, also at the provider."""
    with client(url, config) as db:
        job = db.cancel_job_sync(job_id)
    if as_json:
        print_json(job)
    else:
        print(f"{job.id} is {job.status}")


def costs(
    since: Annotated[str | None, typer.Option(help="the first day, like 2026-01-31 (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="the last day")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what was spent, by day and backend."""
    with client(url, config) as db:
        found = db.costs_sync(since=since, until=until)
    if as_json:
        print_json(found)
        return
    columns = ("day", "backend", "cost_usd", "reserved_usd", "jobs", "circuits", "shots", "reused_circuits")
    rows = [[day[column] for column in columns] for day in found["days"]]
    print_table("costs", columns, rows, f"${found['total_usd']:,.2f} in all")


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(groups, name="groups")
    app.add_typer(jobs, name="jobs")
    app.command()(costs)


def _print_groups(found: Sequence[EntanglementGroup], as_json: bool, following: str | None) -> None:
    if as_json:
        print_json({"groups": list(found), "next": following})
        return
    rows = [(group.group_id, group.correlation_strength, group.version, group.entity_ids) for group in found]
    print_table("groups", ("group", "strength", "version", "members"), rows)


def _print_jobs(title: str, found: Sequence[Job]) -> None:
    rows = [(j.id, j.name, j.status, j.backend, j.circuits, j.shots, j.cost_usd, _why(j)) for j in found]
    print_table(title, ("job", "name", "status", "backend", "circuits", "shots", "cost_usd", "error"), rows)


def _why(job: Job) -> str | None:
    return None if job.error is None else str(job.error.get("detail"))


def _interval(interval: object) -> str:
    low, high = getattr(interval, "low", 0.0), getattr(interval, "high", 0.0)
    return f"{low:.4f} to {high:.4f}"
