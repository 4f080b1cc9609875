"""What calls that compute, and calls about keys and the cluster, answer, as types for OpenAPI."""

from __future__ import annotations

from typing import Literal

from quantum_db.circuits.batch import Effort
from quantum_db.circuits.entanglement import ChshEstimate, CorrelationEstimate
from quantum_db.model import Hit, Interval, Provenance, Refinement, StageTimes
from serve_app.answers import Group, ItemProblem, Json, Reply


class QueryAnswer(Reply):
    """Hits, best first, and how each score came to be. ``stages`` comes with ``explain``."""

    hits: list[Hit]
    mode: str
    candidates: int
    refinement: Refinement
    tunneling: Json | None
    stages: StageTimes | None = None


class QueryAnswered(QueryAnswer):
    """An answer, and whether it was made before."""

    cached: bool


class BatchAnswer(Reply):
    """What became of one query of a batch."""

    status: Literal["answered", "failed"]
    answer: QueryAnswered | None = None
    problem: ItemProblem | None = None


class BatchAnswered(Reply):
    """Of each query of a batch its answer, or what is wrong with it, in their order."""

    answered: int
    failed: int
    items: list[BatchAnswer]


class PairCorrelation(Reply):
    """The correlation of two members."""

    entity_ids: list[str]
    value: float
    interval: Interval
    shots: int


class GroupMeasured(Group):
    """What a group's circuit gave."""

    mean: CorrelationEstimate
    pairs: list[PairCorrelation]
    chsh: ChshEstimate | None
    backend: str
    provenance: Provenance
    shots: int
    cost_usd: float


class EncodedVector(Reply):
    """What the circuit of one vector gave: the share of the shots of each component."""

    context: str | None
    shares: list[float]
    shots: int


class Encoded(Reply):
    """What an encoding gave."""

    op: Literal["encode"]
    id: str
    vectors: list[EncodedVector]


class Entangled(Reply):
    """What an entanglement gave."""

    op: Literal["entangle"]
    mean: CorrelationEstimate
    pairs: list[PairCorrelation]


class Measured(Reply):
    """What a measurement gave: the counts of each outcome, by what was measured."""

    op: Literal["measure"]
    counts: dict[str, dict[str, int]]


class CircuitsRun(Reply):
    """Each operation's result, and the effort beside that of one job for each operation."""

    results: list[Encoded | Entangled | Measured | None]
    effort: Effort
    separate: Effort
    backend: str
    provenance: Provenance
    cost_usd: float


class JobListed(Reply):
    """A job without its result."""

    id: str
    backend: str
    shots: int
    circuits: int
    priority: str
    created_at_s: float
    deadline_at_s: float
    name: str | None
    status: Literal["queued", "submitted", "completed", "failed", "canceled"]
    ended_at_s: float | None
    error: Json | None
    cost_usd: float
    reused_circuits: int
    provider_job_ids: list[str]
    provenance: Provenance | None


class JobSeen(JobListed):
    """A job, with its result once it has one."""

    result: Json | None


class JobList(Reply):
    """Jobs, newest first; ``next`` is the cursor of the next page."""

    jobs: list[JobListed]
    next: str | None


class DayLeft(Reply):
    """What is left of a tenant's day; null without a limit."""

    usd: float | None
    shots: int | None


class JobEstimated(Reply):
    """What a job would cost; ``new_cost_usd`` leaves out what is kept already."""

    backend: str
    circuits: int
    shots: int
    two_qubit_gates: int
    cost_usd: float
    new_cost_usd: float
    price_model: Json
    provider: Json | None
    left_today: DayLeft


class DayCosts(Reply):
    """What was spent at one backend on one day (UTC)."""

    day: str
    backend: str
    cost_usd: float
    reserved_usd: float
    shots: int
    circuits: int
    jobs: int
    reused_circuits: int


class Costs(Reply):
    """What a tenant has spent."""

    tenant: str
    days: list[DayCosts]
    total_usd: float
    left_today: DayLeft


class BackendSeen(Reply):
    """The state of a backend."""

    kind: Literal["simulator", "provider"]
    provenance: Provenance
    breaker: str
    override: str
    in_flight: int
    waiting: int
    predicted_wait_s: float
    mean_job_s: float | None


class KeySeen(Reply):
    """A key without its secret."""

    id: str
    prefix: str
    name: str
    tenant: str
    role: str
    cluster: bool
    actions: list[str] | None
    status: Literal["active", "expired", "revoked"]
    created_at_s: float
    expires_at_s: float | None
    revoked_at_s: float | None
    previous_until_s: float | None


class KeySettled(KeySeen):
    """A changed key, and whether every replica has confirmed the change."""

    everywhere: bool


class KeyMade(KeySettled):
    """A key with its secret, which is shown this once."""

    key: str


class KeyList(Reply):
    """The tenant's keys."""

    keys: list[KeySeen]


class Block(Reply):
    """An address from which too many bad credentials came."""

    address: str
    until_s: float


class BlockList(Reply):
    """The blocked addresses."""

    blocks: list[Block]


class BlockLifted(Reply):
    """An address that is no longer blocked."""

    address: str
    lifted: bool


class AuditHead(Reply):
    """The number and the hash of the audit log's last line, and both as one text."""

    head: str
    count: int
    hash: str


class GraphQLProblem(Reply):
    """What went wrong with a field; ``extensions`` has what a problem of REST has."""

    message: str
    locations: list[dict[str, int]] | None = None
    path: list[str | int] | None = None
    extensions: Json


class GraphQLAnswered(Reply):
    """What a GraphQL request asked for; ``errors`` only where a field failed."""

    data: Json | None
    errors: list[GraphQLProblem] | None = None


class Health(Reply):
    """That a replica answers."""

    status: Literal["ok"]


class Readiness(Reply):
    """Whether every part is ready, and which are not."""

    status: Literal["ready", "not ready"]
    failing: list[str]
