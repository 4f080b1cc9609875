from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("status", "failing")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FAILING_FIELD_NUMBER: _ClassVar[int]
    status: str
    failing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, status: _Optional[str] = ..., failing: _Optional[_Iterable[str]] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("name", "weight", "vector")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    vector: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., vector: _Optional[_Iterable[float]] = ...) -> None: ...

class Entity(_message.Message):
    __slots__ = ("id", "vector", "contexts", "coherence_time_ms", "metadata_json", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    COHERENCE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    vector: _containers.RepeatedScalarFieldContainer[float]
    contexts: _containers.RepeatedCompositeFieldContainer[Context]
    coherence_time_ms: float
    metadata_json: str
    version: int
    def __init__(self, id: _Optional[str] = ..., vector: _Optional[_Iterable[float]] = ..., contexts: _Optional[_Iterable[_Union[Context, _Mapping]]] = ..., coherence_time_ms: _Optional[float] = ..., metadata_json: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class InsertRequest(_message.Message):
    __slots__ = ("collection", "id", "vector", "contexts", "coherence_time_ms", "metadata_json")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    COHERENCE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    collection: str
    id: str
    vector: _containers.RepeatedScalarFieldContainer[float]
    contexts: _containers.RepeatedCompositeFieldContainer[Context]
    coherence_time_ms: float
    metadata_json: str
    def __init__(self, collection: _Optional[str] = ..., id: _Optional[str] = ..., vector: _Optional[_Iterable[float]] = ..., contexts: _Optional[_Iterable[_Union[Context, _Mapping]]] = ..., coherence_time_ms: _Optional[float] = ..., metadata_json: _Optional[str] = ...) -> None: ...

class InsertResponse(_message.Message):
    __slots__ = ("id", "dimension", "contexts", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    dimension: int
    contexts: _containers.RepeatedScalarFieldContainer[str]
    version: int
    def __init__(self, id: _Optional[str] = ..., dimension: _Optional[int] = ..., contexts: _Optional[_Iterable[str]] = ..., version: _Optional[int] = ...) -> None: ...

class InsertBatchRequest(_message.Message):
    __slots__ = ("collection", "vectors", "transaction")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    vectors: _containers.RepeatedCompositeFieldContainer[Entity]
    transaction: bool
    def __init__(self, collection: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ..., transaction: _Optional[bool] = ...) -> None: ...

class InsertBatchResponse(_message.Message):
    __slots__ = ("written", "refused", "transaction", "items", "commit")
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    written: int
    refused: int
    transaction: bool
    items: _containers.RepeatedCompositeFieldContainer[Item]
    commit: int
    def __init__(self, written: _Optional[int] = ..., refused: _Optional[int] = ..., transaction: _Optional[bool] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., commit: _Optional[int] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("id", "status", "version", "problem_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: str
    version: int
    problem_json: str
    def __init__(self, id: _Optional[str] = ..., status: _Optional[str] = ..., version: _Optional[int] = ..., problem_json: _Optional[str] = ...) -> None: ...

class InsertStreamRequest(_message.Message):
    __slots__ = ("collection", "vectors")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    vectors: _containers.RepeatedCompositeFieldContainer[Entity]
    def __init__(self, collection: _Optional[str] = ..., vectors: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ...) -> None: ...

class InsertStreamResponse(_message.Message):
    __slots__ = ("written", "refused", "batches", "refusals")
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    written: int
    refused: int
    batches: int
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, written: _Optional[int] = ..., refused: _Optional[int] = ..., batches: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("position", "id", "problem_json")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_JSON_FIELD_NUMBER: _ClassVar[int]
    position: int
    id: str
    problem_json: str
    def __init__(self, position: _Optional[int] = ..., id: _Optional[str] = ..., problem_json: _Optional[str] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("collection", "id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    id: str
    def __init__(self, collection: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class UpdateRequest(_message.Message):
    __slots__ = ("collection", "id", "vector", "contexts", "coherence_time_ms", "metadata_json", "propagate", "expected_version")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    COHERENCE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    PROPAGATE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    id: str
    vector: _containers.RepeatedScalarFieldContainer[float]
    contexts: _containers.RepeatedCompositeFieldContainer[Context]
    coherence_time_ms: float
    metadata_json: str
    propagate: bool
    expected_version: int
    def __init__(self, collection: _Optional[str] = ..., id: _Optional[str] = ..., vector: _Optional[_Iterable[float]] = ..., contexts: _Optional[_Iterable[_Union[Context, _Mapping]]] = ..., coherence_time_ms: _Optional[float] = ..., metadata_json: _Optional[str] = ..., propagate: _Optional[bool] = ..., expected_version: _Optional[int] = ...) -> None: ...

class UpdateResponse(_message.Message):
    __slots__ = ("id", "version", "moved")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: int
    moved: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., version: _Optional[int] = ..., moved: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "id", "expected_version")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    id: str
    expected_version: int
    def __init__(self, collection: _Optional[str] = ..., id: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("id", "deleted", "commit")
    ID_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    deleted: bool
    commit: int
    def __init__(self, id: _Optional[str] = ..., deleted: _Optional[bool] = ..., commit: _Optional[int] = ...) -> None: ...

class AskedContext(_message.Message):
    __slots__ = ("name", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("max_usd", "max_shots")
    MAX_USD_FIELD_NUMBER: _ClassVar[int]
    MAX_SHOTS_FIELD_NUMBER: _ClassVar[int]
    max_usd: float
    max_shots: int
    def __init__(self, max_usd: _Optional[float] = ..., max_shots: _Optional[int] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("collection", "vector", "context", "contexts", "age_ms", "mode", "top_k", "timeout_ms", "on_timeout", "filter_json", "weighting", "no_context_rule", "backend", "shots", "epsilon", "max_shots", "mitigation", "refine", "enable_tunneling", "tunneling_solver", "explain", "budget", "session_id", "observe", "fresh")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ON_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    FILTER_JSON_FIELD_NUMBER: _ClassVar[int]
    WEIGHTING_FIELD_NUMBER: _ClassVar[int]
    NO_CONTEXT_RULE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    MAX_SHOTS_FIELD_NUMBER: _ClassVar[int]
    MITIGATION_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TUNNELING_FIELD_NUMBER: _ClassVar[int]
    TUNNELING_SOLVER_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    collection: str
    vector: _containers.RepeatedScalarFieldContainer[float]
    context: str
    contexts: _containers.RepeatedCompositeFieldContainer[AskedContext]
    age_ms: float
    mode: str
    top_k: int
    timeout_ms: int
    on_timeout: str
    filter_json: str
    weighting: str
    no_context_rule: str
    backend: str
    shots: int
    epsilon: float
    max_shots: int
    mitigation: str
    refine: str
    enable_tunneling: bool
    tunneling_solver: str
    explain: bool
    budget: Budget
    session_id: str
    observe: bool
    fresh: bool
    def __init__(self, collection: _Optional[str] = ..., vector: _Optional[_Iterable[float]] = ..., context: _Optional[str] = ..., contexts: _Optional[_Iterable[_Union[AskedContext, _Mapping]]] = ..., age_ms: _Optional[float] = ..., mode: _Optional[str] = ..., top_k: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., on_timeout: _Optional[str] = ..., filter_json: _Optional[str] = ..., weighting: _Optional[str] = ..., no_context_rule: _Optional[str] = ..., backend: _Optional[str] = ..., shots: _Optional[int] = ..., epsilon: _Optional[float] = ..., max_shots: _Optional[int] = ..., mitigation: _Optional[str] = ..., refine: _Optional[str] = ..., enable_tunneling: _Optional[bool] = ..., tunneling_solver: _Optional[str] = ..., explain: _Optional[bool] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., session_id: _Optional[str] = ..., observe: _Optional[bool] = ..., fresh: _Optional[bool] = ...) -> None: ...

class QueryResponse(_message.Message):
    __slots__ = ("hits", "mode", "candidates", "refinement", "tunneling_json", "stages", "cached")
    HITS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    REFINEMENT_FIELD_NUMBER: _ClassVar[int]
    TUNNELING_JSON_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    mode: str
    candidates: int
    refinement: Refinement
    tunneling_json: str
    stages: Stages
    cached: bool
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., mode: _Optional[str] = ..., candidates: _Optional[int] = ..., refinement: _Optional[_Union[Refinement, _Mapping]] = ..., tunneling_json: _Optional[str] = ..., stages: _Optional[_Union[Stages, _Mapping]] = ..., cached: _Optional[bool] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high", "confidence")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    confidence: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("id", "score", "classical_score", "context", "context_probability", "metadata_json", "interval")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CLASSICAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    score: float
    classical_score: float
    context: str
    context_probability: float
    metadata_json: str
    interval: Interval
    def __init__(self, id: _Optional[str] = ..., score: _Optional[float] = ..., classical_score: _Optional[float] = ..., context: _Optional[str] = ..., context_probability: _Optional[float] = ..., metadata_json: _Optional[str] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ...) -> None: ...

class Refinement(_message.Message):
    __slots__ = ("ran", "why", "provenance", "backend", "circuit_key", "circuits", "qubits", "shots", "rounds", "confidence", "two_qubit_gates", "cost_usd", "encoding_error", "changed_order", "quantum_speedup_ratio", "provider_job_ids", "plan_json", "routing_json", "reused_circuits", "fell_back")
    RAN_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_KEY_FIELD_NUMBER: _ClassVar[int]
    CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    QUBITS_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TWO_QUBIT_GATES_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    ENCODING_ERROR_FIELD_NUMBER: _ClassVar[int]
    CHANGED_ORDER_FIELD_NUMBER: _ClassVar[int]
    QUANTUM_SPEEDUP_RATIO_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    ROUTING_JSON_FIELD_NUMBER: _ClassVar[int]
    REUSED_CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    FELL_BACK_FIELD_NUMBER: _ClassVar[int]
    ran: bool
    why: str
    provenance: str
    backend: str
    circuit_key: str
    circuits: int
    qubits: int
    shots: int
    rounds: int
    confidence: float
    two_qubit_gates: int
    cost_usd: float
    encoding_error: float
    changed_order: bool
    quantum_speedup_ratio: float
    provider_job_ids: _containers.RepeatedScalarFieldContainer[str]
    plan_json: str
    routing_json: str
    reused_circuits: int
    fell_back: bool
    def __init__(self, ran: _Optional[bool] = ..., why: _Optional[str] = ..., provenance: _Optional[str] = ..., backend: _Optional[str] = ..., circuit_key: _Optional[str] = ..., circuits: _Optional[int] = ..., qubits: _Optional[int] = ..., shots: _Optional[int] = ..., rounds: _Optional[int] = ..., confidence: _Optional[float] = ..., two_qubit_gates: _Optional[int] = ..., cost_usd: _Optional[float] = ..., encoding_error: _Optional[float] = ..., changed_order: _Optional[bool] = ..., quantum_speedup_ratio: _Optional[float] = ..., provider_job_ids: _Optional[_Iterable[str]] = ..., plan_json: _Optional[str] = ..., routing_json: _Optional[str] = ..., reused_circuits: _Optional[int] = ..., fell_back: _Optional[bool] = ...) -> None: ...

class Stages(_message.Message):
    __slots__ = ("parse_ms", "filter_ms", "refine_ms", "rank_ms")
    PARSE_MS_FIELD_NUMBER: _ClassVar[int]
    FILTER_MS_FIELD_NUMBER: _ClassVar[int]
    REFINE_MS_FIELD_NUMBER: _ClassVar[int]
    RANK_MS_FIELD_NUMBER: _ClassVar[int]
    parse_ms: float
    filter_ms: float
    refine_ms: float
    rank_ms: float
    def __init__(self, parse_ms: _Optional[float] = ..., filter_ms: _Optional[float] = ..., refine_ms: _Optional[float] = ..., rank_ms: _Optional[float] = ...) -> None: ...

class CreateGroupRequest(_message.Message):
    __slots__ = ("collection", "group_id", "entity_ids", "correlation_strength")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    collection: str
    group_id: str
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    correlation_strength: float
    def __init__(self, collection: _Optional[str] = ..., group_id: _Optional[str] = ..., entity_ids: _Optional[_Iterable[str]] = ..., correlation_strength: _Optional[float] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("group_id", "entity_ids", "correlation_strength", "version")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    correlation_strength: float
    version: int
    def __init__(self, group_id: _Optional[str] = ..., entity_ids: _Optional[_Iterable[str]] = ..., correlation_strength: _Optional[float] = ..., version: _Optional[int] = ...) -> None: ...

class GetGroupRequest(_message.Message):
    __slots__ = ("collection", "group_id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    group_id: str
    def __init__(self, collection: _Optional[str] = ..., group_id: _Optional[str] = ...) -> None: ...

class DeleteGroupRequest(_message.Message):
    __slots__ = ("collection", "group_id", "expected_version")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    group_id: str
    expected_version: int
    def __init__(self, collection: _Optional[str] = ..., group_id: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class DeleteGroupResponse(_message.Message):
    __slots__ = ("group_id", "deleted", "version")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    deleted: bool
    version: int
    def __init__(self, group_id: _Optional[str] = ..., deleted: _Optional[bool] = ..., version: _Optional[int] = ...) -> None: ...

class MeasureGroupRequest(_message.Message):
    __slots__ = ("collection", "group_id", "shots", "backend", "timeout_ms", "chsh")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    CHSH_FIELD_NUMBER: _ClassVar[int]
    collection: str
    group_id: str
    shots: int
    backend: str
    timeout_ms: int
    chsh: bool
    def __init__(self, collection: _Optional[str] = ..., group_id: _Optional[str] = ..., shots: _Optional[int] = ..., backend: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., chsh: _Optional[bool] = ...) -> None: ...

class Correlation(_message.Message):
    __slots__ = ("value", "interval", "shots")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    value: float
    interval: Interval
    shots: int
    def __init__(self, value: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., shots: _Optional[int] = ...) -> None: ...

class PairCorrelation(_message.Message):
    __slots__ = ("entity_ids", "value", "interval", "shots")
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    value: float
    interval: Interval
    shots: int
    def __init__(self, entity_ids: _Optional[_Iterable[str]] = ..., value: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., shots: _Optional[int] = ...) -> None: ...

class MeasureGroupResponse(_message.Message):
    __slots__ = ("group_id", "entity_ids", "correlation_strength", "version", "mean", "pairs", "chsh_json", "backend", "provenance", "shots", "cost_usd")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_IDS_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    CHSH_JSON_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    entity_ids: _containers.RepeatedScalarFieldContainer[str]
    correlation_strength: float
    version: int
    mean: Correlation
    pairs: _containers.RepeatedCompositeFieldContainer[PairCorrelation]
    chsh_json: str
    backend: str
    provenance: str
    shots: int
    cost_usd: float
    def __init__(self, group_id: _Optional[str] = ..., entity_ids: _Optional[_Iterable[str]] = ..., correlation_strength: _Optional[float] = ..., version: _Optional[int] = ..., mean: _Optional[_Union[Correlation, _Mapping]] = ..., pairs: _Optional[_Iterable[_Union[PairCorrelation, _Mapping]]] = ..., chsh_json: _Optional[str] = ..., backend: _Optional[str] = ..., provenance: _Optional[str] = ..., shots: _Optional[int] = ..., cost_usd: _Optional[float] = ...) -> None: ...

class GetStateRequest(_message.Message):
    __slots__ = ("collection", "id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    id: str
    def __init__(self, collection: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class State(_message.Message):
    __slots__ = ("entity_id", "generation", "phase", "since_s", "coherence_time_ms", "expires_at_s", "measurements", "commit", "history")
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SINCE_S_FIELD_NUMBER: _ClassVar[int]
    COHERENCE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_S_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    entity_id: str
    generation: int
    phase: str
    since_s: float
    coherence_time_ms: float
    expires_at_s: float
    measurements: int
    commit: int
    history: _containers.RepeatedCompositeFieldContainer[State]
    def __init__(self, entity_id: _Optional[str] = ..., generation: _Optional[int] = ..., phase: _Optional[str] = ..., since_s: _Optional[float] = ..., coherence_time_ms: _Optional[float] = ..., expires_at_s: _Optional[float] = ..., measurements: _Optional[int] = ..., commit: _Optional[int] = ..., history: _Optional[_Iterable[_Union[State, _Mapping]]] = ...) -> None: ...

class Circuit(_message.Message):
    __slots__ = ("format", "source", "qubits", "circuit_json")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    QUBITS_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_JSON_FIELD_NUMBER: _ClassVar[int]
    format: str
    source: str
    qubits: int
    circuit_json: str
    def __init__(self, format: _Optional[str] = ..., source: _Optional[str] = ..., qubits: _Optional[int] = ..., circuit_json: _Optional[str] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("shots", "circuits", "overlap_json", "entangle_json", "qaoa_json", "backend", "priority", "deadline_s", "budget", "name")
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_JSON_FIELD_NUMBER: _ClassVar[int]
    ENTANGLE_JSON_FIELD_NUMBER: _ClassVar[int]
    QAOA_JSON_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    shots: int
    circuits: _containers.RepeatedCompositeFieldContainer[Circuit]
    overlap_json: str
    entangle_json: str
    qaoa_json: str
    backend: str
    priority: str
    deadline_s: float
    budget: Budget
    name: str
    def __init__(self, shots: _Optional[int] = ..., circuits: _Optional[_Iterable[_Union[Circuit, _Mapping]]] = ..., overlap_json: _Optional[str] = ..., entangle_json: _Optional[str] = ..., qaoa_json: _Optional[str] = ..., backend: _Optional[str] = ..., priority: _Optional[str] = ..., deadline_s: _Optional[float] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "status", "backend", "shots", "circuits", "priority", "created_at_s", "deadline_at_s", "name", "ended_at_s", "result_json", "error_json", "cost_usd", "reused_circuits", "provider_job_ids", "provenance")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_S_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_JSON_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    REUSED_CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: str
    backend: str
    shots: int
    circuits: int
    priority: str
    created_at_s: float
    deadline_at_s: float
    name: str
    ended_at_s: float
    result_json: str
    error_json: str
    cost_usd: float
    reused_circuits: int
    provider_job_ids: _containers.RepeatedScalarFieldContainer[str]
    provenance: str
    def __init__(self, id: _Optional[str] = ..., status: _Optional[str] = ..., backend: _Optional[str] = ..., shots: _Optional[int] = ..., circuits: _Optional[int] = ..., priority: _Optional[str] = ..., created_at_s: _Optional[float] = ..., deadline_at_s: _Optional[float] = ..., name: _Optional[str] = ..., ended_at_s: _Optional[float] = ..., result_json: _Optional[str] = ..., error_json: _Optional[str] = ..., cost_usd: _Optional[float] = ..., reused_circuits: _Optional[int] = ..., provider_job_ids: _Optional[_Iterable[str]] = ..., provenance: _Optional[str] = ...) -> None: ...

class CostsRequest(_message.Message):
    __slots__ = ("since", "until")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    since: str
    until: str
    def __init__(self, since: _Optional[str] = ..., until: _Optional[str] = ...) -> None: ...

class CostsResponse(_message.Message):
    __slots__ = ("tenant", "days", "total_usd", "left_today")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_USD_FIELD_NUMBER: _ClassVar[int]
    LEFT_TODAY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    days: _containers.RepeatedCompositeFieldContainer[Day]
    total_usd: float
    left_today: Left
    def __init__(self, tenant: _Optional[str] = ..., days: _Optional[_Iterable[_Union[Day, _Mapping]]] = ..., total_usd: _Optional[float] = ..., left_today: _Optional[_Union[Left, _Mapping]] = ...) -> None: ...

class Day(_message.Message):
    __slots__ = ("day", "backend", "cost_usd", "reserved_usd", "shots", "circuits", "jobs", "reused_circuits")
    DAY_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    RESERVED_USD_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    REUSED_CIRCUITS_FIELD_NUMBER: _ClassVar[int]
    day: str
    backend: str
    cost_usd: float
    reserved_usd: float
    shots: int
    circuits: int
    jobs: int
    reused_circuits: int
    def __init__(self, day: _Optional[str] = ..., backend: _Optional[str] = ..., cost_usd: _Optional[float] = ..., reserved_usd: _Optional[float] = ..., shots: _Optional[int] = ..., circuits: _Optional[int] = ..., jobs: _Optional[int] = ..., reused_circuits: _Optional[int] = ...) -> None: ...

class Left(_message.Message):
    __slots__ = ("usd", "shots")
    USD_FIELD_NUMBER: _ClassVar[int]
    SHOTS_FIELD_NUMBER: _ClassVar[int]
    usd: float
    shots: int
    def __init__(self, usd: _Optional[float] = ..., shots: _Optional[int] = ...) -> None: ...
