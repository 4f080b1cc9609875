"""Request bodies, as they come in as JSON, and their way into the model. Nothing unchecked gets past this module.

Each wrong field is told by its path, with what would be right. A vector is checked as one array, never float by float.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from quantum_db.cursors import MAX_CURSOR
from quantum_db.errors import FieldError, InvalidRequest
from quantum_db.filters import Filter
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.model import (
    DEFAULT_COHERENCE_TIME_MS,
    DEFAULT_MAX_SHOTS,
    Context,
    Entity,
    Query,
    Vector,
)
from quantum_db.modes import DEFAULT_MODE, MODES
from quantum_db.near import near_name
from quantum_db.scope import MARK

MAX_DIMENSION = 4_096
MAX_CONTEXTS = 64
MAX_TOP_K = 100
MAX_QAOA_TOP_K = 5
MAX_SHOTS = 1_000_000
MAX_ADAPTIVE_SHOTS = 100_000_000
MAX_TIMEOUT_MS = 60_000
MAX_METADATA_BYTES = 65_536
UNIT_TOLERANCE = 2e-7
"""How far rounding to float32 may take a unit vector's norm from 1; half an ulp is 6e-8."""
WEIGHT_TOLERANCE = 1e-13
"""How far rounding may take the sum of normalised weights from 1, at most 64 times half an ulp."""
YEAR_MS = 365.0 * 86_400_000.0

BodyType = TypeVar("BodyType", bound="Body")


def _unit_vector(value: object) -> Vector:
    """Return the value as a float32 unit vector."""
    if not isinstance(value, list | tuple | np.ndarray):
        refuse("must be a list of numbers")
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.size == 0 and array.ndim <= 1 and array.dtype.kind != "O":
        refuse("is empty; it needs at least one number")
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        refuse("must be a flat list of numbers")
    if array.size > MAX_DIMENSION:
        refuse(f"has {array.size} numbers; the limit is {MAX_DIMENSION}")
    wide = array.astype(np.float64)
    finite = np.isfinite(wide)
    if not finite.all():
        refuse(f"holds a value that is not finite at position {int(np.argmin(finite))}; every value must be a number")
    largest = np.abs(wide).max()
    if largest == 0.0:
        refuse("is the zero vector, which has no direction")
    if largest <= 1.0 and abs(np.linalg.norm(wide) - 1.0) < UNIT_TOLERANCE:
        return wide.astype(np.float32)  # a stored vector comes back as it is, to the last bit
    wide /= largest  # before squaring, so that no norm overflows or vanishes
    return np.asarray(wide / np.linalg.norm(wide), dtype=np.float32)


def refuse(message: str, at: str = "") -> NoReturn:
    """Refuse the value under check, or its field ``at``."""
    raise PydanticCustomError("refused", "{message}", {"message": message, "at": at})


def _finite(value: float) -> float:
    if not math.isfinite(value):
        refuse("must be a finite number")
    return value


def _known_mode(value: object) -> object:
    if value not in MODES:
        refuse(f"must be one of {', '.join(MODES)}, not {value!r:.60}{near_name(str(value), MODES)}")
    return value


def _without_mark(value: str) -> str:
    if MARK in value:
        refuse(f"must not hold the character U+{ord(MARK):X}")
    return value


VectorField = Annotated[
    Vector,
    PlainValidator(_unit_vector),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MAX_DIMENSION}),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
EntityId = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_without_mark)]
SessionId = Annotated[str, Field(min_length=1, max_length=128)]
Finite = Annotated[float, BeforeValidator(lambda value: _finite(value) if isinstance(value, float) else value)]


class Body(BaseModel):
    """Base of all bodies: unknown fields are refused, and numbers are not read out of strings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class ContextBody(Body):
    """One context of an entity."""

    name: Name
    weight: Annotated[Finite, Field(ge=0.0)]
    vector: VectorField | None = None


def checked_contexts(contexts: list[ContextBody]) -> list[ContextBody]:
    """Refuse contexts that make no state."""
    seen: set[str] = set()
    for context in contexts:
        if context.name in seen:
            refuse(f"names the context {context.name!r} twice; each name may stand once")
        seen.add(context.name)
    if contexts and sum(context.weight for context in contexts) <= 0.0:
        refuse("all weights are zero; at least one must be positive")
    return contexts


def checked_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Refuse metadata that is too large."""
    size = len(repr(metadata))
    if size > MAX_METADATA_BYTES:
        refuse(f"is {size} characters long; the limit is {MAX_METADATA_BYTES}")
    return metadata


def normalised(contexts: list[ContextBody]) -> tuple[Context, ...]:
    """Return contexts whose weights sum to 1."""
    largest = max((c.weight for c in contexts), default=1.0)  # divided first: a sum could overflow
    total = sum(context.weight / largest for context in contexts)
    if abs(sum(context.weight for context in contexts) - 1.0) < WEIGHT_TOLERANCE:
        largest = total = 1.0  # stored weights come back as they are, to the last bit
    return tuple(Context(c.name, c.weight / largest / total, c.vector) for c in contexts)


class EntityBody(Body):
    """An entity to write. Weights need not sum to 1; they are normalised."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "doc_123",
                "vector": [0.1, 0.2],
                "contexts": [{"name": "technical", "weight": 0.7}, {"name": "general", "weight": 0.3}],
                "coherence_time_ms": 1000,
                "metadata": {"source": "arxiv"},
            }
        }
    )

    id: EntityId
    vector: VectorField | None = None
    contexts: Annotated[list[ContextBody], Field(max_length=MAX_CONTEXTS)] = []
    coherence_time_ms: Annotated[Finite, Field(gt=0.0, le=YEAR_MS)] = DEFAULT_COHERENCE_TIME_MS
    metadata: dict[str, Any] = {}

    @field_validator("contexts")
    @classmethod
    def _contexts_make_a_state(cls, contexts: list[ContextBody]) -> list[ContextBody]:
        return checked_contexts(contexts)

    @field_validator("metadata")
    @classmethod
    def _metadata_is_small(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        return checked_metadata(metadata)

    @model_validator(mode="after")
    def _every_context_has_a_vector(self) -> EntityBody:
        missing = [context.name for context in self.contexts if context.vector is None]
        if self.vector is None and (missing or not self.contexts):
            what = f"the context {missing[0]!r} has none of its own" if missing else "there are no contexts"
            refuse(f"is missing, and {what}", at="vector")
        sizes = {v.size for v in (self.vector, *(c.vector for c in self.contexts)) if v is not None}
        if len(sizes) > 1:
            refuse(f"have different dimensions ({', '.join(map(str, sorted(sizes)))}); all must be equal", at="vectors")
        return self

    def to_entity(self) -> Entity:
        """Return the entity with normalised weights."""
        return Entity(
            id=self.id,
            vector=self.vector,
            contexts=normalised(self.contexts),
            coherence_time_ms=self.coherence_time_ms,
            metadata=self.metadata,
        )


class GraphQLBody(Body):
    """A GraphQL request, as the GraphQL over HTTP specification has it."""

    model_config = ConfigDict(json_schema_extra={"example": {"query": "{ costs }"}})

    query: Annotated[str, Field(min_length=1)]
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815 - the specification's name


class VectorPageBody(Body):
    """Which entities to list: those after a cursor, with their vectors or without."""

    cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    vectors: bool = True


class AskedContext(Body):
    """One of several contexts that a query asks in superposition, with its probability (normalised over all)."""

    name: Name
    weight: Annotated[Finite, Field(gt=0.0)] = 1.0


class BudgetBody(Body):
    """What the circuits of one query or job may cost, estimated by published prices before anything is submitted."""

    max_usd: Annotated[Finite, Field(ge=0.0)] | None = None
    max_shots: Annotated[int, Field(ge=0)] | None = None

    def to_limit(self) -> SpendingLimit:
        """Return the limit."""
        return SpendingLimit(self.max_usd, self.max_shots)


class QueryBody(Body):
    """A vector query."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "vector": [0.1, 0.2],
                "context": "technical",
                "mode": "balanced",
                "enable_tunneling": True,
                "top_k": 10,
                "timeout_ms": 5000,
            }
        }
    )

    vector: VectorField
    context: Name | None = None
    contexts: Annotated[list[AskedContext], Field(max_length=MAX_CONTEXTS)] = []
    age_ms: Annotated[Finite, Field(ge=0.0, le=YEAR_MS)] = 0.0
    mode: Annotated[str, BeforeValidator(_known_mode), WithJsonSchema({"enum": list(MODES)})] = DEFAULT_MODE
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] = 10
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] = 5_000
    on_timeout: Literal["classical", "error"] = "classical"
    filter: Filter | None = None
    weighting: Literal["conditional", "joint"] = "conditional"
    no_context_rule: Literal["soft", "best", "traced"] = "soft"
    backend: Name | None = None
    shots: Annotated[int, Field(ge=1, le=MAX_SHOTS)] | None = None
    epsilon: Annotated[Finite, Field(ge=0.0, le=0.5)] | None = None
    max_shots: Annotated[int, Field(ge=1_000, le=MAX_ADAPTIVE_SHOTS)] = DEFAULT_MAX_SHOTS
    mitigation: Literal["none", "readout", "zne"] = "none"
    refine: Literal["auto", "always"] = "auto"
    enable_tunneling: bool = False
    tunneling_solver: Literal["annealing", "qaoa"] = "annealing"
    explain: bool = False
    budget: BudgetBody = BudgetBody()
    session_id: SessionId | None = None
    observe: bool = False
    fresh: bool = False

    @field_validator("contexts")
    @classmethod
    def _asked_contexts_differ(cls, contexts: list[AskedContext]) -> list[AskedContext]:
        names = [context.name for context in contexts]
        if len(set(names)) < len(names):
            refuse("names a context twice; each name may stand once")
        return contexts

    @model_validator(mode="after")
    def _contexts_are_asked_one_way(self) -> QueryBody:
        if self.context is not None and self.contexts:
            refuse("and contexts exclude each other: one names a single context, the other several", at="context")
        return self

    @model_validator(mode="after")
    def _observing_has_a_session_and_an_outcome(self) -> QueryBody:
        if self.observe and (self.session_id is None or (self.context is None and len(self.contexts) != 1)):
            refuse("needs a session_id and a single context, which is the outcome that the session notes", at="observe")
        return self

    @model_validator(mode="after")
    def _mitigation_knows_its_shots(self) -> QueryBody:
        if self.mitigation != "none" and (self.epsilon is not None or len(self.contexts) > 1):
            refuse("goes with neither epsilon nor several contexts", at="mitigation")
        return self

    @model_validator(mode="after")
    def _qaoa_is_small(self) -> QueryBody:
        if self.tunneling_solver == "qaoa" and self.top_k > MAX_QAOA_TOP_K:
            refuse(f"may be at most {MAX_QAOA_TOP_K} with the solver qaoa, which chooses among ten hits", at="top_k")
        return self

    @model_validator(mode="after")
    def _adaptive_shots_have_one_aim(self) -> QueryBody:
        if self.epsilon is None:
            return self
        if self.shots is not None:
            refuse("and epsilon exclude each other: one fixes the shots, the other lets them adapt", at="shots")
        if len(self.contexts) > 1:
            refuse("needs a single context: a score of several takes two circuits", at="epsilon")
        if self.context is None and not self.contexts and self.no_context_rule != "best":
            message = f"needs a context, or the rule best: in {self.no_context_rule} no single circuit can lead"
            refuse(message, at="epsilon")
        return self

    def to_query(self, tenant: str) -> Query:
        """Return the query with times in seconds, for a tenant."""
        own = {"timeout_ms", "context", "contexts", "budget", "fresh"}
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in own}
        asked = [(context.name, context.weight) for context in self.contexts]
        if self.context is not None:
            asked = [(self.context, 1.0)]
        largest = max((weight for _, weight in asked), default=1.0)
        total = sum(weight / largest for _, weight in asked)
        contexts = tuple((name, weight / largest / total) for name, weight in asked)
        return Query(
            timeout_s=self.timeout_ms / 1000.0,
            contexts=contexts,
            tenant=tenant,
            budget=self.budget.to_limit(),
            **fields,
        )


def parse(kind: type[BodyType], raw: object) -> BodyType:
    """Check a decoded JSON value.

    Raises:
        InvalidRequest: it is not a valid body; each wrong field has its path.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise invalid_request(error, kind) from None


def invalid_request(error: ValidationError, kind: type[BaseModel]) -> InvalidRequest:
    """Return the error that tells each wrong field of ``kind`` by path, at most 20 of them."""
    details = error.errors(include_url=False)
    errors = [FieldError(_path(item), _message(item, kind)) for item in details[:20]]
    shown = "; ".join(f"{item.path}: {item.message}" if item.path else item.message for item in errors[:3])
    more = f" (and {len(details) - 3} more)" if len(details) > 3 else ""
    return InvalidRequest(f"{shown}{more}", errors=errors)


def _path(item: ErrorDetails) -> str:
    path = ""
    at = str(item.get("ctx", {}).get("at", ""))
    for part in (*item["loc"], *([at] if at else [])):
        if str(part).startswith("#"):  # the name of a branch of a union, not of a field
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _message(item: ErrorDetails, kind: type[BaseModel]) -> str:
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "extra_forbidden":
        return f"is not a known field{near_name(str(item['loc'][-1]), kind.model_fields)}"
    if item["type"] == "refused":
        return item["msg"]
    given = repr(item["input"])
    shown = f", not {given[:60]}" if not isinstance(item["input"], dict | list) else ""
    return (
        item["msg"].removeprefix("Value error, ").replace("Input should be", "must be").replace("String should", "must")
        + shown
    )
