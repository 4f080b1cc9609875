"""The model as JSON values, in the shapes that the API answers with."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from quantum_db.lifecycle import State
from quantum_db.measurement import Measurement
from quantum_db.model import Answer, EntanglementGroup, Entity, Hit


def entity_view(entity: Entity) -> dict[str, Any]:
    """Return the body that would write this entity. Vectors are the stored unit vectors."""
    contexts = []
    for context in entity.contexts:
        view: dict[str, Any] = {"name": context.name, "weight": context.weight}
        if context.vector is not None:
            view["vector"] = context.vector.tolist()
        contexts.append(view)
    body: dict[str, Any] = {"id": entity.id}
    if entity.vector is not None:
        body["vector"] = entity.vector.tolist()
    return {
        **body,
        "contexts": contexts,
        "coherence_time_ms": entity.coherence_time_ms,
        "metadata": dict(entity.metadata),
    }


def answer_view(answer: Answer, explain: bool) -> dict[str, Any]:
    """Return an answer; ``explain`` adds the time of each stage."""
    view: dict[str, Any] = {
        "hits": [_hit_view(hit) for hit in answer.hits],
        "mode": answer.mode,
        "candidates": answer.candidates,
        "refinement": asdict(answer.refinement),
        "tunneling": dict(answer.tunneling) if answer.tunneling is not None else None,
    }
    if explain:
        view["stages"] = asdict(answer.stages)
    return view


def group_view(group: EntanglementGroup) -> dict[str, Any]:
    """Return a group with its version."""
    return asdict(group)


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
        "backend": measurement.runs[0].backend,
        "provenance": measurement.runs[0].provenance,
        "shots": measurement.shots,
        "cost_usd": sum(run.cost_usd for run in measurement.runs),
    }


def state_view(state: State) -> dict[str, Any]:
    """Return a state of the lifecycle."""
    return {**asdict(state), "phase": state.phase.value}


def _hit_view(hit: Hit) -> dict[str, Any]:
    return {**asdict(hit), "metadata": dict(hit.metadata)}
