"""The operations of a batch, as they come in as JSON: encode, entangle, measure. Checked as a whole, with field paths.

[{"op": "encode", "id": "doc_1", "contexts": [{"name": "finance", "vector": [1, 2]}, {"name": "river", ...}]},
 {"op": "encode", "id": "doc_2", "vector": [3, 4]},
 {"op": "entangle", "entity_ids": ["doc_1", "doc_3"], "correlation_strength": 0.85},
 {"op": "measure", "shots": 1000}]
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from quantum_db.errors import InvalidRequest
from quantum_db.requests import MAX_SHOTS, Body, EntityId, Finite, Name, VectorField, parse

MAX_OPERATIONS = 256
MAX_MEMBERS = 64
DEFAULT_SHOTS = 1_024


class EncodedContext(Body):
    """One of the two contexts of an encoded entity. Weights need not sum to 1; they are normalised."""

    name: Name
    vector: VectorField
    weight: Annotated[Finite, Field(gt=0.0)] = 1.0


class Encode(Body):
    """Prepare an entity: one vector on a register of its own, or two, chosen by a context qubit."""

    op: Literal["encode"]
    id: EntityId
    vector: VectorField | None = None
    contexts: Annotated[list[EncodedContext], Field(default_factory=list, max_length=2)]


class Entangle(Body):
    """Correlate entities: one qubit for each, <ZZ> of every pair is the strength."""

    op: Literal["entangle"]
    entity_ids: Annotated[list[EntityId], Field(min_length=2, max_length=MAX_MEMBERS)]
    correlation_strength: Annotated[Finite, Field(ge=0.0, le=1.0)]


class Measure(Body):
    """Read entities at the end of the circuit; all of them if none is named."""

    op: Literal["measure"]
    entity_ids: Annotated[list[EntityId], Field(min_length=1)] | None = None
    shots: Annotated[int, Field(ge=1, le=MAX_SHOTS)] = DEFAULT_SHOTS


def _tag(value: Any) -> str:
    found = value.get("op") if isinstance(value, dict) else getattr(value, "op", None)
    return f"#{found}"


Operation = Annotated[
    Annotated[Encode, Tag("#encode")] | Annotated[Entangle, Tag("#entangle")] | Annotated[Measure, Tag("#measure")],
    Discriminator(_tag, custom_error_type="refused", custom_error_message="op must be encode, entangle or measure"),
]


class OperationsBody(Body):
    """A batch of operations."""

    operations: Annotated[list[Operation], Field(min_length=1, max_length=MAX_OPERATIONS)]


def parse_operations(raw: object) -> tuple[Encode | Entangle | Measure, ...]:
    """Check a list of operations, each by itself and all together.

    Raises:
        InvalidRequest: with the path of what is wrong, such as ``operations[2].entity_ids[0]``.
    """
    operations = tuple(parse(OperationsBody, {"operations": raw}).operations)
    encoded: dict[str, Encode] = {}
    entangled: dict[str, int] = {}
    measuring = False
    for index, operation in enumerate(operations):
        path = f"operations[{index}]"
        if isinstance(operation, Measure):
            measuring = True
            continue
        if measuring:
            raise InvalidRequest.at(
                f"{path}.op", "must come before the first measure: nothing runs after a measurement"
            )
        if isinstance(operation, Encode):
            _check_encode(path, operation, encoded)
            encoded[operation.id] = operation
        else:
            for place, member in enumerate(operation.entity_ids):
                if member in entangled:
                    message = f"{member!r} is in operations[{entangled[member]}] already; one group for an entity"
                    raise InvalidRequest.at(f"{path}.entity_ids[{place}]", message)
                entangled[member] = index
    if not measuring:
        raise InvalidRequest.at("operations", "must end with a measure: a job without one has no result")
    if not encoded and not entangled:
        raise InvalidRequest.at("operations", "must encode or entangle something that can be measured")
    _check_names(operations, encoded, entangled)
    return operations


def _check_encode(path: str, operation: Encode, encoded: dict[str, Encode]) -> None:
    if operation.id in encoded:
        raise InvalidRequest.at(f"{path}.id", f"{operation.id!r} is encoded already; an entity is encoded once")
    if (operation.vector is None) == (len(operation.contexts) == 0):
        raise InvalidRequest.at(f"{path}.vector", "needs either a vector or two contexts")
    if operation.contexts:
        if len(operation.contexts) != 2:
            raise InvalidRequest.at(f"{path}.contexts", "must be two; one context is a vector")
        first, second = operation.contexts
        if first.name == second.name:
            raise InvalidRequest.at(f"{path}.contexts[1].name", f"{second.name!r} is the name of the other context too")
        if first.vector.size != second.vector.size:
            message = f"has {second.vector.size} numbers; the other context has {first.vector.size}"
            raise InvalidRequest.at(f"{path}.contexts[1].vector", message)


def _check_names(
    operations: tuple[Encode | Entangle | Measure, ...], encoded: dict[str, Encode], entangled: dict[str, int]
) -> None:
    """Check what can be known only at the end: measured names, and the weights of entangled entities."""
    for index, operation in enumerate(operations):
        path = f"operations[{index}]"
        if isinstance(operation, Measure):
            for place, name in enumerate(operation.entity_ids or []):
                if name not in encoded and name not in entangled:
                    message = f"{name!r} is neither encoded nor entangled in this batch"
                    raise InvalidRequest.at(f"{path}.entity_ids[{place}]", message)
        elif isinstance(operation, Encode) and operation.contexts and operation.id in entangled:
            first, second = operation.contexts
            if first.weight != second.weight:
                message = "weights must be equal: alone, each member of an entangled group is a fair coin"
                raise InvalidRequest.at(f"{path}.contexts[1].weight", message)
