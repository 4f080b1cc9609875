"""Commands that run a cluster: serve, up, down, status, doctor, demo."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Final

import typer

from cluster import background, demo
from cluster.commands.shared import ConfigOption, JsonOption, UrlOption, address, print_json, print_table
from cluster.doctor import FAILED, examine
from cluster.runtime import running, tend
from cluster.settings import load
from cluster.status import look
from quantum_db.errors import InvalidSettings

FIRST_KEY: Final = "the administrator's key, shown this once; keep it (export QUANTUM_DB_KEY=...):"

GRPC_AT: Final = "gRPC is answered at"

TEND_S: Final = 0.5
"""Between two looks at what the cluster stands on."""


def serve(config: ConfigOption = None) -> None:
    """Run a cluster until Ctrl-C."""
    settings = load(config)
    print(f"starting with {config or 'defaults'}, data in {settings.data_dir} ...", flush=True)
    try:
        with running(settings) as cluster:
            if cluster.made_key:
                print(f"{FIRST_KEY} {cluster.admin_key}", flush=True)
            if cluster.grpc_address is not None:
                print(f"{GRPC_AT} {cluster.grpc_address}", flush=True)
            print(f"the cluster answers at {cluster.url} (try {cluster.url}/docs); Ctrl-C stops it", flush=True)
            while True:
                tend(settings)
                time.sleep(TEND_S)
    except KeyboardInterrupt:
        print("stopped", flush=True)


def up(
    config: ConfigOption = None,
    wait_s: Annotated[float, typer.Option("--wait", help="seconds until it must answer")] = background.START_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Start a cluster in the background, and wait until it answers. Where one runs already, tell of that."""
    settings = load(config)
    data_dir = settings.data_dir.resolve()
    cluster = background.found(data_dir)
    started = cluster is None
    if cluster is None:
        arguments = [] if config is None else ["--config", str(config)]
        cluster = background.start(data_dir, arguments, background.environment_with({}), wait_s)
    told = background.told_once(data_dir) if started else []
    log = data_dir / background.LOG_FILE
    if as_json:
        more = {"started": started, "log": str(log), "told_once": told}
        print_json({**asdict(cluster), **more})
        return
    for line in told:
        print(line)
    print(f"the cluster answers at {cluster.url} (try {cluster.url}/docs)" + ("" if started else "; it ran already"))
    if cluster.grpc is not None:
        print(f"{GRPC_AT} {cluster.grpc}")
    print(f"it writes to {log}; quantum-db down stops it")


def down(
    config: ConfigOption = None,
    wait_s: Annotated[float, typer.Option("--wait", help="seconds until what is left is killed")] = (
        background.STOP_TIMEOUT_S
    ),
    as_json: JsonOption = False,
) -> None:
    """Stop the cluster that has its data in data_dir, and all its processes. Where none runs, nothing is done."""
    data_dir = load(config).data_dir.resolve()
    stopped = background.stop(data_dir, wait_s)
    if as_json:
        print_json({"stopped": stopped})
        return
    print("the cluster is stopped" if stopped else f"no cluster runs with data in {data_dir}")


def status(url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell whether a cluster and all its parts are ready, what it holds, and how its backends are."""
    found = look(address(url, config), None if url else background.found(load(config).data_dir.resolve()))
    if as_json:
        print_json(found)
    else:
        ready = "ready" if found.ready else "not ready: " + "; ".join(found.failing)
        print(f"the cluster at {found.url} is {ready}")
        if found.grpc is not None:
            print(f"{GRPC_AT} {found.grpc}")
        print_table("what it holds", ("", "number"), [(name, number) for name, number in found.counts.items()])
        columns = ("backend", "kind", "breaker", "in flight", "waiting")
        fields = ("kind", "breaker", "in_flight", "waiting")
        rows = [(name, *(told.get(field) for field in fields)) for name, told in found.backends.items()]
        print_table("backends", columns, rows)
    if not found.ready:
        raise typer.Exit(3)


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look for what would keep a cluster with these settings from running, and tell what helps."""
    try:
        findings = examine(load(config))
    except InvalidSettings as error:
        raise InvalidSettings(f"the settings cannot be read, so nothing else was looked at: {error.detail}") from None
    if as_json:
        print_json({"findings": findings})
    else:
        rows = [(finding.state, finding.name, finding.what, finding.remedy or "") for finding in findings]
        print_table("doctor", ("", "looked at", "found", "what helps"), rows)
    if any(finding.state == FAILED for finding in findings):
        raise typer.Exit(2)


def run_demo() -> None:
    """Start a cluster, load WordNet, ask five questions, stop."""
    raise typer.Exit(demo.main())


def add(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, up, down, status, doctor):
        app.command()(command)
    app.command("demo")(run_demo)
