"""Commands about API keys."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from cluster.commands.shared import ConfigOption, JsonOption, UrlOption, address, print_json, print_table, rest

keys = typer.Typer(no_args_is_help=True, help="API keys: who may do what.")

PATH: Final = "/api/v2/keys"
DAY_S: Final = 86_400.0
SHOWN: Final = ("prefix", "name", "role", "tenant", "status")

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID")]


@keys.command("list")
def list_keys(url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the keys of the tenant, without their secrets."""
    found = rest(address(url, config), "GET", PATH)
    if as_json:
        print_json(found)
    else:
        print_table("keys", SHOWN, [[key.get(field) for field in SHOWN] for key in found["keys"]])


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="what it is for")],
    role: Annotated[str, typer.Option(help="reader, writer, operator or admin")] = "reader",
    tenant: Annotated[str | None, typer.Option(help="whose; else that of the key you use")] = None,
    days: Annotated[float | None, typer.Option(help="until it expires")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once."""
    body = {"name": name, "role": role, "tenant": tenant, "expires_in_s": None if days is None else days * DAY_S}
    given = {field: value for field, value in body.items() if value is not None}
    _show_secret(rest(address(url, config), "POST", PATH, given), as_json)


@keys.command("rotate")
def rotate_key(
    key_id: KeyId,
    grace_s: Annotated[float | None, typer.Option("--grace", help="seconds that the old secret stays good")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key another secret, shown this once."""
    body = {} if grace_s is None else {"grace_s": grace_s}
    _show_secret(rest(address(url, config), "POST", f"{PATH}/{quote(key_id, safe='')}/rotate", body), as_json)


@keys.command("revoke")
def revoke_key(key_id: KeyId, url: UrlOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Revoke a key for good."""
    told = rest(address(url, config), "DELETE", f"{PATH}/{quote(key_id, safe='')}")
    if as_json:
        print_json(told)
    else:
        print(f"{key_id} is revoked")


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="keys")


def _show_secret(made: Any, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        print(f"{made['prefix']}, {made['role']} of {made['tenant']}; the key is shown this once:\n{made['key']}")
