"""The model as JSON values, in the shapes that the API answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from quantum_db.batches import BatchRun
from quantum_db.circuits.batch_results import EncodeResult, EntangleResult, Result
from quantum_db.errors import InvalidRequest
from quantum_db.measurement import Measurement
from quantum_db.model import Answer, EntanglementGroup, Entity, Hit, Interval, Refinement, StageTimes
from quantum_db.states.history import Instances
from quantum_db.states.records import record_of


def entity_view(entity: Entity, vectors: bool = True) -> dict[str, Any]:
    """Return the body that would write this entity, with its version; ``vectors`` False leaves its vectors out.

    Vectors are the stored unit vectors.
    """
    contexts = []
    for context in entity.contexts:
        view: dict[str, Any] = {"name": context.name, "weight": context.weight}
        if vectors and context.vector is not None:
            view["vector"] = context.vector.tolist()
        contexts.append(view)
    body: dict[str, Any] = {"id": entity.id}
    if vectors and entity.vector is not None:
        body["vector"] = entity.vector.tolist()
    return {
        **body,
        "contexts": contexts,
        "coherence_time_ms": entity.coherence_time_ms,
        "metadata": dict(entity.metadata),
        "version": entity.version,
    }


def item_view(entity_id: str | None, version: int | None, error: InvalidRequest | None) -> dict[str, Any]:
    """Return what became of one entity of a batch."""
    if error is not None:
        return {"id": entity_id, "status": "refused", "problem": error.problem()}
    return {"id": entity_id, "status": "written", "version": version}


def answer_view(answer: Answer, explain: bool) -> dict[str, Any]:
    """Return an answer; ``explain`` adds the time of each stage and the plan of the circuits."""
    view: dict[str, Any] = {
        "hits": [_hit_view(hit) for hit in answer.hits],
        "mode": answer.mode,
        "candidates": answer.candidates,
        "refinement": _fields(answer.refinement),
        "tunneling": dict(answer.tunneling) if answer.tunneling is not None else None,
    }
    if explain:
        view["stages"] = _fields(answer.stages)
    else:
        del view["refinement"]["plan"]
        routing = answer.refinement.routing
        if routing is not None:
            view["refinement"]["routing"] = {name: routing[name] for name in routing if name != "options"}
    return view


def group_view(group: EntanglementGroup) -> dict[str, Any]:
    """Return a group with its version."""
    return asdict(group)


def session_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session: each moved entity's weights w are seen as kept * w + added."""
    moves = {one: {"kept": kept, "added": dict(added)} for one, (kept, added) in record["moves"].items()}
    return {
        "session_id": record["session_id"],
        "used_s": record["used_s"],
        "measurements": len(record["measured"]),
        "moves": moves,
    }


def measurement_view(measurement: Measurement) -> dict[str, Any]:
    """Return the correlations of a group: their mean, each pair's, and the Bell test if it was asked for."""
    members = measurement.group.entity_ids
    pairs = [
        {"entity_ids": [members[a], members[b]], **asdict(found)}
        for (a, b), found in sorted(measurement.correlation.pairs.items())
    ]
    return {
        **group_view(measurement.group),
        "mean": asdict(measurement.correlation.mean),
        "pairs": pairs,
        "chsh": asdict(measurement.chsh) if measurement.chsh is not None else None,
        "backend": measurement.run.backend,
        "provenance": measurement.run.provenance,
        "shots": measurement.shots,
        "cost_usd": measurement.run.cost_usd,
    }


def batch_view(run: BatchRun) -> dict[str, Any]:
    """Return each operation's result, and the effort beside that of one job for each operation."""
    return {
        "results": [_result_view(result) for result in run.results],
        "effort": asdict(run.plan.effort),
        "separate": asdict(run.plan.separate),
        "backend": run.run.backend,
        "provenance": run.run.provenance,
        "cost_usd": run.run.cost_usd,
    }


def _result_view(result: Result | None) -> dict[str, Any] | None:
    if isinstance(result, EncodeResult):
        vectors = [{"context": v.context, "shares": v.shares.tolist(), "shots": v.shots} for v in result.vectors]
        return {"op": "encode", "id": result.id, "vectors": vectors}
    if isinstance(result, EntangleResult):
        pairs = [
            {"entity_ids": [result.entity_ids[a], result.entity_ids[b]], **asdict(found)}
            for (a, b), found in sorted(result.correlation.pairs.items())
        ]
        return {"op": "entangle", "mean": asdict(result.correlation.mean), "pairs": pairs}
    if result is None:
        return None
    counts = {name: {str(outcome): n for outcome, n in found.items()} for name, found in result.counts.items()}
    return {"op": "measure", "counts": counts}


def instances_view(instances: Instances) -> dict[str, Any]:
    """Return an entity's state, with the instances before it as its ``history``, newest first."""
    return {**record_of(instances.current), "history": [record_of(state) for state in instances.earlier]}


def _hit_view(hit: Hit) -> dict[str, Any]:
    interval = None if hit.interval is None else _fields(hit.interval)
    return {**_fields(hit), "metadata": dict(hit.metadata), "interval": interval}


def _fields(value: Hit | Interval | Refinement | StageTimes) -> dict[str, Any]:
    """Return the fields as they are: ``asdict`` copies all that is in them, which costs more than a query's ranking."""
    return {name: getattr(value, name) for name in value.__slots__}
