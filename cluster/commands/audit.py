"""Commands about what is kept under lock: the audit log, and encrypted exports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.shared import ConfigOption, JsonOption, print_json
from cluster.settings import load
from quantum_db.access.audit import AUDIT_FILE, Broken, Head, verify
from quantum_db.encryption import data_keys
from quantum_db.errors import CorruptData, InvalidRequest
from quantum_db.transfer.sealed_files import SUFFIX, open_file

audit = typer.Typer(no_args_is_help=True, help="The audit log: who did what.")


@audit.callback()
def about_audit() -> None:
    """The audit log: who did what."""


@audit.command("verify")
def verify_audit(
    log: Annotated[Path | None, typer.Option(help="else the one in data_dir")] = None,
    head: Annotated[str | None, typer.Option(help="one that was kept elsewhere, as /api/v2/audit/head told it")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an audit log from its first line to its last."""
    path = log or load(config).data_dir / AUDIT_FILE
    found = verify(path, None if head is None else Head.parsed(head))
    if isinstance(found, Broken):
        raise CorruptData(f"{path}, line {found.line}: {found.why}")
    if as_json:
        print_json({"lines": found.count, "head": str(found)})
    else:
        print(f"{found.count:,} lines are as they were written; the head is {found}")


def decrypt(file: Annotated[Path, typer.Argument(help="whose name ends in .sealed")]) -> None:
    """Decrypt an export, with the keys in QUANTUM_DB_DATA_KEYS; the plain one is written beside it."""
    plain = file.with_name(file.name.removesuffix(SUFFIX))
    if plain == file or plain.exists():
        raise InvalidRequest(f"{file}: the name must end in {SUFFIX}, and without it be that of no file")
    open_file(file, plain, data_keys(os.environ))
    print(f"{plain} holds what {file} does, in the open")


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(audit, name="audit")
    app.command()(decrypt)
