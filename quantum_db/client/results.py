"""What calls return: frozen values, with vectors as NumPy arrays. Made from the JSON that the API answers with.

Fields that a newer cluster adds are left out; where JSON is returned as it is, they are in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, overload

import numpy as np

from quantum_db.circuits.entanglement import ChshEstimate, CorrelationEstimate
from quantum_db.errors import QuantumDBError
from quantum_db.model import Context, EntanglementGroup, Entity, Hit, Interval, Refinement, StageTimes

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Results(Sequence[Hit]):
    """The hits of a query, best first, as a sequence; with how they came to be.

    Attributes:
        refinement: what the quantum stage did, or why it did not run.
        stages: wall times, with ``explain``.
        cached: kept from an earlier call, by this client (``Config.enable_cache``) or by the cluster.
    """

    hits: tuple[Hit, ...]
    mode: str
    candidates: int
    refinement: Refinement
    stages: StageTimes | None = None
    tunneling: Mapping[str, Any] | None = None
    cached: bool = False

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, place: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[place]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class Written:
    """An entity that was written, the number of the commit that wrote it, and which partners it has moved with it."""

    id: str
    version: int
    moved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one entity of a batch: its ``version``, or the ``error`` for which it was not written.

    An ``Unavailable`` or ``DeadlineExceeded`` says that it is not known whether it was; writing it again settles that.
    """

    id: str | None
    version: int | None = None
    error: QuantumDBError | None = None


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of each entity of a batch, in the order in which they were given."""

    items: tuple[Item, ...]

    @property
    def written(self) -> int:
        """How many were written."""
        return len(self.items) - len(self.failed)

    @property
    def failed(self) -> tuple[Item, ...]:
        """Those that were not, or of which it is not known."""
        return tuple(item for item in self.items if item.error is not None)

    def check(self) -> BatchOutcome:
        """Return this outcome, or raise the error of the first entity that has one."""
        for item in self.failed:
            assert item.error is not None
            raise item.error
        return self


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; ``next`` is the cursor of the next page, None at the end."""

    entities: tuple[Entity, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class PairCorrelation:
    """The correlation of two members as it was measured."""

    entity_ids: tuple[str, str]
    estimate: CorrelationEstimate


@dataclass(frozen=True, slots=True)
class Correlation:
    """What a group's circuit was measured to be.

    Attributes:
        mean: over the pairs.
        chsh: the Bell test of the first two members, where it was asked for.
        cost_usd: of the shots.
    """

    group: EntanglementGroup
    mean: CorrelationEstimate
    pairs: tuple[PairCorrelation, ...]
    chsh: ChshEstimate | None
    backend: str
    provenance: str
    shots: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Job:
    """A quantum job.

    Attributes:
        status: ``queued``, ``submitted``, ``completed``, ``failed`` or ``canceled``.
        result: of a completed job that was asked for by its id.
        error: ``slug`` and ``detail`` of a failed one.
    """

    id: str
    status: str
    backend: str
    shots: int
    circuits: int
    priority: str
    created_at_s: float
    deadline_at_s: float
    name: str | None = None
    ended_at_s: float | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    cost_usd: float = 0.0
    reused_circuits: int = 0
    provider_job_ids: tuple[str, ...] = ()
    provenance: str | None = None


def results_of(answer: Json) -> Results:
    """Return the answer of a query."""
    stages, ran = answer.get("stages"), dict(answer["refinement"])
    ran["provider_job_ids"] = tuple(ran.get("provider_job_ids") or ())
    return Results(
        hits=tuple(_hit_of(hit) for hit in answer["hits"]),
        mode=answer["mode"],
        candidates=answer["candidates"],
        refinement=_made(Refinement, ran),
        stages=None if stages is None else _made(StageTimes, stages),
        tunneling=answer.get("tunneling"),
        cached=answer.get("cached", False),
    )


def entity_of(view: Mapping[str, Any]) -> Entity:
    """Return an entity; its vectors are float32 arrays."""
    contexts = tuple(Context(c["name"], c["weight"], _vector(c.get("vector"))) for c in view.get("contexts") or ())
    own = {name: view[name] for name in ("coherence_time_ms", "metadata", "version") if name in view}
    return Entity(id=view["id"], vector=_vector(view.get("vector")), contexts=contexts, **own)


def page_of(answer: Json) -> Page:
    """Return a page of entities."""
    return Page(tuple(entity_of(view) for view in answer["vectors"]), answer["next"])


def group_of(view: Json) -> EntanglementGroup:
    """Return a group."""
    return _made(EntanglementGroup, {**view, "entity_ids": tuple(view["entity_ids"])})


def correlation_of(view: Json) -> Correlation:
    """Return what was measured of a group."""
    chsh = view.get("chsh")
    if chsh is not None:
        values = {**chsh, "interval": _made(Interval, chsh["interval"]), "correlations": tuple(chsh["correlations"])}
        chsh = _made(ChshEstimate, values)
    return Correlation(
        group=group_of(view),
        mean=_estimate_of(view["mean"]),
        pairs=tuple(PairCorrelation((p["entity_ids"][0], p["entity_ids"][1]), _estimate_of(p)) for p in view["pairs"]),
        chsh=chsh,
        backend=view["backend"],
        provenance=view["provenance"],
        shots=view["shots"],
        cost_usd=view["cost_usd"],
    )


def job_of(view: Json) -> Job:
    """Return a job."""
    return _made(Job, {**view, "provider_job_ids": tuple(view.get("provider_job_ids") or ())})


def _hit_of(hit: Json) -> Hit:
    interval = hit.get("interval")
    return _made(Hit, {**hit, "interval": None if interval is None else _made(Interval, interval)})


def _estimate_of(view: Json) -> CorrelationEstimate:
    return _made(CorrelationEstimate, {**view, "interval": _made(Interval, view["interval"])})


def _made(kind: type[T], view: Mapping[str, Any]) -> T:
    """Return a dataclass of those values that it has fields for."""
    return kind(**{field.name: view[field.name] for field in fields(kind) if field.name in view})  # type: ignore[arg-type]


def _vector(value: Any) -> Any:
    return None if value is None else np.asarray(value, dtype=np.float32)
