"""``POST /graphql``: one request is parsed, weighed, and then answered field by field.

Each field passes the gate by itself, as a call of its own. What a request asks for is bounded before anything runs: its
tokens, selections, depth and aliases, and the cost units of its fields together, by the table that REST goes by.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    Node,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
)
from graphql import parse as parse_document
from strawberry import Schema
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter
from strawberry.types import ExecutionContext, get_object_definition
from strawberry.utils.str_converters import to_snake_case

from quantum_db.access.policy import RULES, action_of
from quantum_db.api import Api
from quantum_db.errors import InvalidRequest, QuantumDBError
from quantum_db.requests import GraphQLBody, parse
from serve_app.exchange import json_body
from serve_app.gate import Gate
from serve_app.gated_route import peer_of
from serve_app.graphql_schema import Caller, Mutation, Query
from serve_app.openapi import documented

logger = logging.getLogger(__name__)

PATH: Final = "/graphql"
MAX_DEPTH: Final = 15
"""Fields within fields. Answers have four levels; what tools ask of the schema itself has thirteen."""
MAX_ALIASES: Final = 16
MAX_TOKENS: Final = 20_000
"""A vector of 4,096 numbers is as many tokens."""
MAX_SELECTIONS: Final = 250
"""Fields and fragments as they are written. To validate them takes time that grows with their square, for anybody."""
PAGE: Final = 100
"""Items of a list that a field costs its units for; one that asks for more costs them for each page of so many."""
_NO_INT: Final = 2**31
"""Above all that GraphQL's ``Int`` can be."""
MAX_COST: Final = 100
"""Cost units of all fields of a request; see ``quantum_db.access.policy``."""

Json = dict[str, Any]


class _Schema(Schema):
    """Tells of errors in the log only where they are faults of the server."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:  # noqa: ARG002
        for error in errors:
            if error.original_error is not None and not isinstance(error.original_error, QuantumDBError):
                logger.error("a field failed", exc_info=error.original_error)


def schema() -> Schema:
    """Return the schema with its bounds."""
    return _Schema(
        query=Query,
        mutation=Mutation,
        extensions=[
            lambda: MaxAliasesLimiter(max_alias_count=MAX_ALIASES),
            lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        ],
    )


def operations() -> list[str]:
    """Return the names of all fields that pass the gate, in snake case; for the policy's test."""
    return [
        field.python_name for kind in (Query, Mutation) for field in get_object_definition(kind, strict=True).fields
    ]


def add_graphql(app: FastAPI, api: Api, gate: Gate, max_body_bytes: int) -> None:
    """Add the route. It is open itself: what it is asked for is not."""
    served = schema()

    @app.post(PATH, **documented("graphql"))
    async def graphql(request: Request) -> Response:
        """Answer a GraphQL request; errors of fields are in the answer, as GraphQL has it."""
        asked = parse(GraphQLBody, await json_body(request, max_body_bytes))
        request_id = request.state.request_id
        try:
            weigh(parse_document(asked.query, max_tokens=MAX_TOKENS), asked.operationName, asked.variables or {})
        except RecursionError:
            raise _too_deep() from None
        except GraphQLError as error:
            return _answer(None, [error], request_id)
        caller = Caller(api, gate, request.headers, peer_of(request), request_id)
        found = await served.execute(
            asked.query,
            variable_values=asked.variables,
            operation_name=asked.operationName,
            context_value=caller,
        )
        return _answer(found.data, found.errors or (), request_id)


def weigh(document: DocumentNode, operation_name: str | None, variables: Mapping[str, Any]) -> None:
    """Bound what a document asks for; aliases count, and lists by how many items they may have.

    Raises:
        InvalidRequest: it has too many selections, nests them too deep, or the operation's fields cost too much.
    """
    weights = _Weights(document, variables)
    try:
        if sum(map(_selections, document.definitions)) > MAX_SELECTIONS:
            raise InvalidRequest.at("query", f"has more than {MAX_SELECTIONS} fields and fragments")
        found = [
            weights.of(one.selection_set)
            for one in document.definitions
            if isinstance(one, OperationDefinitionNode)
            and operation_name in (None, None if one.name is None else one.name.value)
        ]
    except RecursionError:
        raise _too_deep() from None
    if max((depth for _, depth in found), default=0) > MAX_DEPTH:
        raise _too_deep()
    cost = sum(cost for cost, _ in found)
    if cost > MAX_COST:
        raise InvalidRequest.at("query", f"asks for {cost} cost units; {MAX_COST} are the most of one request")


def _too_deep() -> InvalidRequest:
    return InvalidRequest.at("query", f"has fields within fields more than {MAX_DEPTH} times")


def _selections(node: Node) -> int:
    """Return how many fields and fragments are written within a definition, or within one of them."""
    inside: SelectionSetNode | None = getattr(node, "selection_set", None)
    return 0 if inside is None else sum(1 + _selections(one) for one in inside.selections)


class _Weights:
    """The cost units and the depth of selections. A fragment is weighed once, however often it is spread."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._variables = {**_defaults(document), **variables}
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, selection: SelectionSetNode) -> tuple[int, int]:
        """Return what the fields of a selection cost, not those within them; and how deep it is."""
        cost = depth = 0
        for node in selection.selections:
            if isinstance(node, FieldNode):
                below = 0 if node.selection_set is None else self.of(node.selection_set)[1]
                cost, depth = cost + self._cost_of(node), max(depth, 1 + below)
            else:
                more = self._of_fragment(node)
                cost, depth = cost + more[0], max(depth, more[1])
        return cost, depth

    def _of_fragment(self, node: SelectionNode) -> tuple[int, int]:
        if isinstance(node, InlineFragmentNode):
            return self.of(node.selection_set)
        assert isinstance(node, FragmentSpreadNode)
        name = node.name.value
        if name not in self._known and name in self._fragments:
            self._known[name] = (0, 0)  # inside itself, which the validation refuses
            self._known[name] = self.of(self._fragments[name].selection_set)
        return self._known.get(name, (0, 0))

    def _cost_of(self, field: FieldNode) -> int:
        rule = RULES.get(action_of(to_snake_case(field.name.value)))
        pages = math.ceil(max([1, *(self._limit_of(one) for one in field.arguments or ())]) / PAGE)
        return pages if rule is None else rule.cost * pages

    def _limit_of(self, argument: ArgumentNode) -> int:
        """Return the items that are asked for; 0 where the argument tells of none."""
        if argument.name.value != "limit":
            return 0
        if isinstance(argument.value, VariableNode):
            return _whole(self._variables.get(argument.value.name.value))
        return _literal(argument.value)


def _defaults(document: DocumentNode) -> dict[str, int]:
    """Return what variables are where they are not given; the most, where operations differ."""
    found: dict[str, int] = {}
    for one in document.definitions:
        for variable in one.variable_definitions or () if isinstance(one, OperationDefinitionNode) else ():
            name = variable.variable.name.value
            found[name] = max(found.get(name, 0), _literal(variable.default_value))
    return found


def _literal(value: Node | None) -> int:
    if not isinstance(value, IntValueNode):
        return 0
    return int(value.value) if len(value.value) < len(str(_NO_INT)) else _NO_INT


def _whole(value: object) -> int:
    """Return a variable's value, which JSON may also write as 1000.0; 0 where it is no number."""
    return int(min(value, _NO_INT)) if isinstance(value, int | float) else 0


def _answer(data: Any, errors: Iterable[GraphQLError], request_id: str) -> Response:
    told = [_told(error, request_id) for error in errors]
    body = {"data": data, **({"errors": told} if told else {})}
    return Response(orjson.dumps(body), media_type="application/json")


def _told(error: GraphQLError, request_id: str) -> Json:
    found: Json = dict(error.formatted)
    original = error.original_error
    if original is None:
        own: Json = {"slug": InvalidRequest.slug, "status": InvalidRequest.status}
    elif isinstance(original, QuantumDBError):
        problem = original.problem()
        own = {"slug": original.slug, "status": original.status, "title": problem["title"]}
        own |= {name: problem[name] for name in ("errors",) if name in problem}
        if original.retry_after_s is not None:
            own["retry_after_s"] = original.retry_after_s
    else:
        found["message"] = "an unexpected error; see the server's log"
        own = {"slug": QuantumDBError.slug, "status": QuantumDBError.status}
    return {**found, "extensions": {**own, "request_id": request_id}}
