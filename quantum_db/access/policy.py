"""Who may do what: one table, action -> least role. What is not in it, nobody may do.

An action is a call of the API. REST routes, GraphQL fields and gRPC methods each name one; ``unruled`` tells which of
them the table does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from quantum_db.access.principal import Principal, Role
from quantum_db.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Rule:
    """What an action asks of a caller.

    Attributes:
        role: the least one that may do it.
        writes: whether it changes something: such calls are always in the audit log.
        cluster: whether it concerns all tenants, so that only credentials of the whole cluster may do it.
        cost: in cost units, see ``access.limits``.
    """

    role: Role
    writes: bool = False
    cluster: bool = False
    cost: int = 1


def _read(cost: int = 1) -> Rule:
    return Rule(Role.READER, cost=cost)


def _write(cost: int = 1) -> Rule:
    return Rule(Role.WRITER, writes=True, cost=cost)


_OF_KEYS: Final = Rule(Role.ADMIN, writes=True)
_OF_CLUSTER: Final = Rule(Role.OPERATOR, writes=True, cluster=True)

OPEN: Final = frozenset({"healthz", "readyz", "graphql"})
"""The first two are asked by load balancers and supervisors, which have no credential. They tell of no tenant. Of the
third, each field passes the gate by itself."""

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "fetch": _read(),
        "scroll": _read(5),
        "query": _read(2),
        "query_batch": _read(100),
        "query_under": _read(3),
        "group": _read(),
        "list_groups": _read(5),
        "state": _read(),
        "session": _read(),
        "end_session": _read(),
        "circuit": _read(),
        "jobs.get": _read(),
        "jobs.list": _read(5),
        "jobs.estimate": _read(2),
        "jobs.costs": _read(2),
        "jobs.backends": _read(),
        "insert": _write(),
        "insert_batch": _write(20),
        "update": _write(),
        "delete": _write(),
        "transact": _write(10),
        "collection": _read(2),
        "list_collections": _read(5),
        "create_collection": Rule(Role.OPERATOR, writes=True, cost=10),
        "drop_collection": Rule(Role.OPERATOR, writes=True, cost=10),
        "create_group": _write(2),
        "update_group": _write(2),
        "delete_group": _write(2),
        "measure_group": _write(5),
        "execute_batch": _write(10),
        "jobs.submit": _write(10),
        "jobs.cancel": _write(),
        "sql.query": _read(5),
        "sql.explain": _read(5),
        "sql.schema": _read(2),
        "sql.batch": _read(50),
        "metrics": Rule(Role.OPERATOR, cluster=True),
        "jobs.set_breaker": _OF_CLUSTER,
        "blocks.list": Rule(Role.OPERATOR, cluster=True),
        "blocks.lift": _OF_CLUSTER,
        "audit.head": Rule(Role.OPERATOR, cluster=True),
        "keys.list": Rule(Role.ADMIN),
        "keys.create": _OF_KEYS,
        "keys.rotate": _OF_KEYS,
        "keys.revoke": _OF_KEYS,
    }
)

_ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "submit_job": "jobs.submit",
        "estimate_job": "jobs.estimate",
        "job": "jobs.get",
        "list_jobs": "jobs.list",
        "cancel_job": "jobs.cancel",
        "costs": "jobs.costs",
        "backends": "jobs.backends",
        "set_breaker": "jobs.set_breaker",
        "create_key": "keys.create",
        "list_keys": "keys.list",
        "revoke_key": "keys.revoke",
        "rotate_key": "keys.rotate",
        "list_blocks": "blocks.list",
        "lift_block": "blocks.lift",
        "audit_head": "audit.head",
        "sql_query": "sql.query",
        "sql_explain": "sql.explain",
        "sql_schema": "sql.schema",
        "sql_batch": "sql.batch",
        "sql_asked": "sql.query",
        "sql_asked_by_url": "sql.query",
        "health": "readyz",
        "insert_stream": "insert_batch",
        "get_group": "group",
        "get_state": "state",
        "get_job": "jobs.get",
    }
)


def action_of(operation: str) -> str:
    """Return the action of a REST route (its function's name), or of a GraphQL field or gRPC method in snake case."""
    return _ACTIONS.get(operation, operation)


def unruled(operations: Iterable[str]) -> list[str]:
    """Return those operations that nobody may do because the table does not know them, by name."""
    return sorted({one for one in operations if action_of(one) not in RULES and action_of(one) not in OPEN})


def rule_of(action: str) -> Rule:
    """Return the rule of an action. Raises Forbidden when there is none."""
    rule = RULES.get(action)
    if rule is None:
        raise Forbidden(f"nobody may do {action!r}: it has no rule")
    return rule


def check_allowed(principal: Principal, action: str) -> Rule:
    """Return the rule of an action if the caller may do it.

    Raises:
        Forbidden: the caller may not; the message tells what it takes.
    """
    rule = rule_of(action)
    if principal.role < rule.role:
        raise Forbidden(
            f"{action} needs the role {rule.role.label} or above; this credential has {principal.role.label}"
        )
    if principal.actions is not None and action not in principal.actions:
        raise Forbidden(f"{action} is not among the actions of this credential")
    if rule.cluster and not principal.cluster:
        raise Forbidden(f"{action} concerns all tenants, and this credential is of one")
    return rule
