"""Jobs that a user asks for by what they are to find out, and what the counts of any job are read as.

How counts are read is data, a ``Reading``: it goes into a journal beside the circuits, and a job that is picked up
after a restart says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from quantum_db.circuits.encoding import cosine_of_fidelity, encode_span, lift
from quantum_db.circuits.entanglement import CorrelationEstimate, correlation_circuit, estimate_group
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.qaoa import plan_qaoa, read_sample
from quantum_db.circuits.qaoa_ansatz import diverse_selection
from quantum_db.circuits.statistics import wilson_interval
from quantum_db.circuits.template import CircuitBatch
from quantum_db.diversity import DIVERSITY, QAOA_HITS, QAOA_LAYERS
from quantum_db.errors import CorruptData, FieldError, InvalidCircuit, JobFailed
from quantum_db.requests import Body, Finite, VectorField, refuse
from quantum_db.tunneling import Selection, greedy

Counts = Mapping[int, int]

MAX_VECTORS: Final = 1_000
MAX_MEMBERS: Final = 64
CONFIDENCE: Final = 0.95
MAX_WEIGHT: Final = 1e6
_SEED: Final = 0
_ASYMMETRY: Final = 1e-9


class CountsReading(Body):
    """The counts as they are: for each circuit, outcome -> shots."""

    kind: Literal["counts"] = "counts"

    def read(self, counts: Sequence[Counts]) -> dict[str, Any]:
        """Return the counts with their outcomes as text, as JSON has it; the lowest bit is qubit 0."""
        return {"counts": [{str(outcome): number for outcome, number in one.items()} for one in counts]}


class OverlapReading(Body):
    """The fidelity of each lifted vector with the lifted query: its share of all-zero outcomes.

    Attributes:
        worst_error: the largest error of an inner product that fitting the vectors into the qubits made.
    """

    kind: Literal["overlap"] = "overlap"
    worst_error: float

    def read(self, counts: Sequence[Counts]) -> dict[str, Any]:
        """Return fidelities with Wilson intervals, and the cosines that they stand for; noise is not divided out."""
        zeros = np.array([one.get(0, 0) for one in counts], dtype=np.int64)
        shots = np.array([sum(one.values()) for one in counts], dtype=np.int64)
        low, high = wilson_interval(zeros, shots, CONFIDENCE)
        values = zeros / shots
        columns = zip(values, low, high, cosine_of_fidelity(values), strict=True)
        names = ("fidelity", "low", "high", "cosine")
        return {
            "overlaps": [dict(zip(names, map(float, column), strict=True)) for column in columns],
            "confidence": CONFIDENCE,
            "worst_inner_product_error": self.worst_error,
        }


class EntangleReading(Body):
    """<ZZ> of each pair of a group's members, and of their mean."""

    kind: Literal["entangle"] = "entangle"
    members: int
    correlation_strength: float

    def read(self, counts: Sequence[Counts]) -> dict[str, Any]:
        """Return the estimates with intervals, beside the correlation that an ideal machine has."""
        found = estimate_group(counts[0], self.members, CONFIDENCE)
        pairs = [{"members": list(pair), **_estimate(estimate)} for pair, estimate in found.pairs.items()]
        return {
            "correlation": _estimate(found.mean),
            "expected": self.correlation_strength,
            "pairs": pairs,
            "confidence": CONFIDENCE,
            "shots": found.mean.shots,
        }


class QaoaReading(Body):
    """The best selection that was sampled, beside the greedy one.

    Attributes:
        optimal_from, optimum_probability, uniform_probability: see ``QaoaPlan``.
    """

    kind: Literal["qaoa"] = "qaoa"
    relevance: list[float]
    similarity: list[list[float]]
    count: int
    optimal_from: float
    optimum_probability: float
    uniform_probability: float

    def read(self, counts: Sequence[Counts]) -> dict[str, Any]:
        """Return both selections with their values; ``best`` is None where no shot was feasible."""
        problem = diverse_selection(self.relevance, self.similarity, self.count, DIVERSITY)
        sampled = read_sample(problem, self.optimal_from, counts[0])
        first = greedy(self.relevance, self.similarity, self.count, DIVERSITY)
        best = sampled.selection
        return {
            "best": None if best is None else _selection(best),
            "greedy": _selection(first),
            "gain_over_greedy": None if best is None else best.value - first.value,
            "diversity": DIVERSITY,
            "shots": sampled.shots,
            "feasible_shots": sampled.feasible_shots,
            "optimum_shots": sampled.optimum_shots,
            "optimum_probability": self.optimum_probability,
            "uniform_probability": self.uniform_probability,
        }


Reading = CountsReading | OverlapReading | EntangleReading | QaoaReading
_READING: Final = TypeAdapter[Reading](Annotated[Reading, Field(discriminator="kind")])


def reading_from_json(raw: object) -> Reading:
    """Return a reading from its ``model_dump()``. Raises CorruptData."""
    try:
        return _READING.validate_python(raw)
    except ValidationError as error:
        raise CorruptData(f"a stored reading cannot be read: {error.errors()[0]['msg']}") from None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedJob:
    """What is to be run, and what its counts are to be read as."""

    parts: tuple[CircuitBatch, ...]
    reading: Reading

    def read(self, counts: Sequence[Counts]) -> dict[str, Any]:
        """Return what the counts say, as JSON values.

        Args:
            counts: of each circuit, in the order of the parts and of their rows; each with at least one shot.

        Raises:
            JobFailed: there are not as many as circuits, or one has no shots.
        """
        circuits = sum(len(part) for part in self.parts)
        if len(counts) != circuits:
            raise JobFailed(f"{len(counts)} histograms came back for {circuits} circuits")
        if not all(sum(one.values()) > 0 for one in counts):
            raise JobFailed("a histogram came back without shots")
        return self.reading.read(counts)


class OverlapBody(Body):
    """Estimate how near vectors are to one: one circuit for each fidelity of lifted vectors, ((1 + cosine) / 2)^2."""

    vector: VectorField
    vectors: Annotated[list[VectorField], Field(min_length=1, max_length=MAX_VECTORS)]

    @model_validator(mode="after")
    def _dimensions_are_equal(self) -> OverlapBody:
        for index, vector in enumerate(self.vectors):
            if vector.size != self.vector.size:
                refuse(f"has {vector.size} numbers; the vector has {self.vector.size}", at=f"vectors[{index}]")
        return self

    def prepare(self, max_qubits: int) -> PreparedJob:
        """Return the merged overlap circuits; where the vectors need more than ``max_qubits``, their span is cut."""
        query, candidates = lift(self.vector[None, :])[0], lift(np.stack(self.vectors))
        encoding = encode_span(query, candidates, max_qubits)
        circuits = overlap_circuits(encoding, overlap_template(encoding.num_qubits))
        return PreparedJob((circuits,), OverlapReading(worst_error=encoding.worst_error))


class EntangleBody(Body):
    """Entangle members so that each pair's <ZZ> is ``correlation_strength``, and measure it."""

    members: Annotated[int, Field(ge=2, le=MAX_MEMBERS)]
    correlation_strength: Annotated[Finite, Field(ge=0.0, le=1.0)]

    def prepare(self, max_qubits: int) -> PreparedJob:
        """Return the group's circuit. Raises InvalidCircuit for more members than ``max_qubits``."""
        _check_qubits("entangle.members", self.members, max_qubits)
        circuit = correlation_circuit(self.members, self.correlation_strength)
        reading = EntangleReading(members=self.members, correlation_strength=self.correlation_strength)
        return PreparedJob((circuit,), reading)


Weight = Annotated[Finite, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


class QaoaBody(Body):
    """Choose ``count`` of the candidates by relevance and by how much they differ: see ``quantum_db.tunneling``."""

    relevance: Annotated[list[Weight], Field(min_length=2, max_length=QAOA_HITS)]
    similarity: Annotated[list[list[Weight]], Field(min_length=2, max_length=QAOA_HITS)]
    count: Annotated[int, Field(ge=1, le=QAOA_HITS)]

    @model_validator(mode="after")
    def _sizes_agree(self) -> QaoaBody:
        size = len(self.relevance)
        if len(self.similarity) != size or any(len(row) != size for row in self.similarity):
            refuse(f"must be {size} by {size}, a row and a column for each relevance", at="similarity")
        similarity = np.array(self.similarity)
        if np.abs(similarity - similarity.T).max() > _ASYMMETRY * max(1.0, float(np.abs(similarity).max())):
            refuse("must be symmetric", at="similarity")
        if self.count > size:
            refuse(f"must be at most {size}, the number of candidates", at="count")
        return self

    def prepare(self, max_qubits: int) -> PreparedJob:
        """Return the QAOA circuit with angles found beforehand, which takes some tenths of a second.

        Deterministic. Raises InvalidCircuit for more candidates than ``max_qubits``.
        """
        _check_qubits("qaoa.relevance", len(self.relevance), max_qubits)
        problem = diverse_selection(self.relevance, self.similarity, self.count, DIVERSITY)
        plan = plan_qaoa(problem, QAOA_LAYERS, np.random.default_rng(_SEED))
        reading = QaoaReading(
            relevance=self.relevance,
            similarity=self.similarity,
            count=self.count,
            optimal_from=plan.optimal_from,
            optimum_probability=plan.optimum_probability,
            uniform_probability=plan.uniform_probability,
        )
        return PreparedJob((plan.batch,), reading)


def _check_qubits(path: str, qubits: int, max_qubits: int) -> None:
    if qubits > max_qubits:
        message = f"needs {qubits} qubits, and the backend takes {max_qubits}"
        raise InvalidCircuit(f"{path}: {message}", errors=[FieldError(path, message)])


def _estimate(found: CorrelationEstimate) -> dict[str, float]:
    return {"value": found.value, "low": found.interval.low, "high": found.interval.high}


def _selection(found: Selection) -> dict[str, Any]:
    return {"indices": list(found.indices), "value": found.value}
