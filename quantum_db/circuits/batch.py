"""A batch of operations as one circuit where the qubits allow, and as few circuits and jobs as they allow elsewhere.

**What the operations mean.** ``encode`` prepares |v> on a register of ceil(log2 d) qubits, or, with two contexts,
sqrt(w_0)|0>|v_0> + sqrt(w_1)|1>|v_1> with a context qubit. ``entangle`` prepares the state of
`quantum_db.circuits.entanglement` on one qubit for each member; where a member is encoded with two contexts, that qubit
is its context qubit, so that the contexts of the members are correlated. All of it is prepared before anything is read,
in whatever order it is written, and there is no measurement inside a circuit.

**Planning.** What shares no qubit and no entanglement is a block of its own. Blocks are packed into circuits, the
largest first, each into the first circuit that has room. Circuits of one structure are one job. A circuit whose blocks
are a part of another's gets the missing ones with all angles 0, which leaves their qubits in |0> and saves a job; their
gates run and are counted, and ``fill=False`` does without.

Counts are read back by `quantum_db.circuits.batch_results`. All blocks are read in every shot, so several
measures are answered by the same shots, as many as the largest asks for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits.batch_operations import Encode, Entangle, Measure, parse_operations
from quantum_db.circuits.encoding import tree_angles
from quantum_db.circuits.entanglement import correlation_angles, correlation_template
from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import CX, CircuitBatch, H, MultiplexedRY, Rotation, Step, Template, content_key
from quantum_db.errors import InvalidRequest
from quantum_db.ionq.pricing import PriceModel

Floats = NDArray[np.float64]
Operation = Encode | Entangle | Measure


@dataclass(frozen=True, slots=True)
class Seat:
    """The qubits of an entity, within its block or, in a plan, within its circuit.

    Attributes:
        member: its qubit in a group, which is its context qubit where it has contexts.
        register: the qubits of its vector, the lowest bit first.
    """

    member: int | None
    register: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    template: Template
    angles: Floats
    seats: Mapping[str, Seat]

    @property
    def qubits(self) -> int:
        return self.template.num_qubits


class _Builder:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.angles: list[Floats] = []
        self.count = 0

    def ry(self, target: int, controls: tuple[int, ...], angles: Floats) -> None:
        self.steps.append(MultiplexedRY(target, controls, self.count))
        self.angles.append(angles)
        self.count += angles.size

    def prepare(self, operation: Encode, register: tuple[int, ...], member: int | None) -> None:
        """Add the amplitude trees of an entity's vectors; two are multiplexed on its context qubit."""
        vectors = [c.vector for c in operation.contexts] if operation.vector is None else [operation.vector]
        amplitudes = np.zeros((len(vectors), 1 << len(register)))
        for row, vector in enumerate(vectors):
            amplitudes[row, : vector.size] = vector
        amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
        choice = () if len(vectors) == 1 or member is None else (member,)
        for level, angles in enumerate(tree_angles(amplitudes)):
            place = len(register) - 1 - level
            self.ry(register[place], (*register[place + 1 :], *choice), angles.ravel())

    def block(self, qubits: int, seats: Mapping[str, Seat]) -> _Block:
        steps = tuple(self.steps)
        return _Block(Template(content_key(qubits, steps), qubits, steps), np.concatenate(self.angles), seats)


def _alone(operation: Encode) -> _Block:
    """Return the block of an encoded entity that shares nothing with others."""
    size = operation.vector.size if operation.vector is not None else operation.contexts[0].vector.size
    register = tuple(range(max(1, math.ceil(math.log2(size)))))
    builder, member = _Builder(), None
    if operation.vector is None:
        member = len(register)
        first, second = (context.weight for context in operation.contexts)
        builder.ry(member, (), np.array([2.0 * math.atan2(math.sqrt(second), math.sqrt(first))]))
    builder.prepare(operation, register, member)
    return builder.block(len(register) + (member is not None), {operation.id: Seat(member, register)})


def _group(operation: Entangle, encoded: Mapping[str, Encode]) -> _Block:
    """Return the block of a group, with the registers of those members whose contexts its qubits choose."""
    members = len(operation.entity_ids)
    builder = _Builder()
    angles = correlation_angles(members, operation.correlation_strength)
    builder.steps += correlation_template(members).steps
    builder.angles.append(angles)
    builder.count = angles.size
    seats, free = {}, members
    for member, name in enumerate(operation.entity_ids):
        register: tuple[int, ...] = ()
        if name in encoded and encoded[name].contexts:
            width = max(1, math.ceil(math.log2(encoded[name].contexts[0].vector.size)))
            register = tuple(range(free, free + width))
            free += width
            builder.prepare(encoded[name], register, member)
        seats[name] = Seat(member, register)
    return builder.block(free, seats)


@dataclass(frozen=True, slots=True)
class Effort:
    """What it takes to run something: gates are those of one shot of every circuit."""

    jobs: int
    circuits: int
    shots: int
    qubits: int
    one_qubit_gates: int
    two_qubit_gates: int

    def price_usd(self, price: PriceModel) -> float:
        """Return what it costs; packing can cost more where gates are billed and idle blocks run."""
        circuits = self.circuits
        return price.cost_usd(
            circuits, self.shots // circuits, self.one_qubit_gates / circuits, self.two_qubit_gates / circuits
        )


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """Jobs to run with ``shots`` shots for each circuit.

    Attributes:
        batches: each is one job.
        operations: what was asked, in order.
        seats: entity -> places (job, circuit within it, qubits). An entity with one vector that is also in a group has
            two, which are independent.
        effort: of this plan.
        separate: of one job for each encode and entangle, with as many shots.
        idle_blocks: blocks with all angles 0 that make structures equal.
    """

    batches: tuple[CircuitBatch, ...]
    shots: int
    operations: tuple[Operation, ...]
    seats: Mapping[str, tuple[tuple[int, int, Seat], ...]]
    effort: Effort
    separate: Effort
    idle_blocks: int


def plan_batch(raw: object, backend: str, limits: BackendLimits, *, fill: bool = True) -> BatchPlan:
    """Plan a list of operations; see `quantum_db.circuits.batch_operations` for their shape.

    Args:
        fill: add idle blocks where that saves a job. Not worth it where gates are billed.

    Raises:
        InvalidRequest: with the path of what is wrong; also where one block alone needs more qubits than there are.
        InvalidCircuit: too many circuits, gates or shots in one job.
    """
    operations = parse_operations(raw)
    encoded = {operation.id: operation for operation in operations if isinstance(operation, Encode)}
    grouped = {name for operation in operations if isinstance(operation, Entangle) for name in operation.entity_ids}
    blocks = []
    for index, operation in enumerate(operations):
        if isinstance(operation, Entangle):
            block = _group(operation, encoded)
        elif isinstance(operation, Encode) and not (operation.contexts and operation.id in grouped):
            block = _alone(operation)
        else:
            continue
        if block.qubits > limits.max_qubits:
            message = f"needs {block.qubits} qubits in one circuit, and {backend} has {limits.max_qubits}"
            raise InvalidRequest.at(f"operations[{index}]", message)
        blocks.append(block)
    shots = max(operation.shots for operation in operations if isinstance(operation, Measure))
    jobs, idle = _equal_structures(_pack(blocks, limits.max_qubits), fill)
    batches = tuple(_batch(job) for job in jobs)
    for batch in batches:
        check_limits(backend, limits, [batch], shots)
    alone = [
        _group(operation, {}) if isinstance(operation, Entangle) else _alone(operation)
        for operation in operations
        if not isinstance(operation, Measure)
    ]
    return BatchPlan(
        batches,
        shots,
        operations,
        _seats(jobs),
        _effort([(batch.template, len(batch)) for batch in batches], shots),
        _effort([(block.template, 1) for block in alone], shots),
        idle,
    )


def _pack(blocks: Sequence[_Block], max_qubits: int) -> list[list[_Block]]:
    """Return circuits as lists of blocks: first fit, by falling number of qubits.

    It takes at most 11/9 of the fewest possible circuits, and one more (Dosa, LNCS 4614, 1, 2007).
    """
    circuits: list[list[_Block]] = []
    room: list[int] = []
    for block in sorted(blocks, key=lambda block: (-block.qubits, block.template.key)):
        place = next((i for i, free in enumerate(room) if free >= block.qubits), len(circuits))
        if place == len(circuits):
            circuits.append([])
            room.append(max_qubits)
        circuits[place].append(block)
        room[place] -= block.qubits
    return circuits


def _equal_structures(circuits: list[list[_Block]], fill: bool) -> tuple[list[list[list[_Block]]], int]:
    """Return jobs of circuits with one structure each, and how many idle blocks that took."""
    jobs: list[list[list[_Block]]] = []
    idle = 0
    for circuit in sorted(circuits, key=lambda circuit: -sum(block.qubits for block in circuit)):
        mine = Counter(block.template.key for block in circuit)
        for job in jobs:
            theirs = Counter(block.template.key for block in job[0])
            if mine == theirs or (fill and mine <= theirs):
                left = list(circuit)
                filled = []
                for pattern in job[0]:
                    found = next((b for b in left if b.template.key == pattern.template.key), None)
                    if found is None:
                        found = replace(pattern, angles=np.zeros_like(pattern.angles), seats={})
                        idle += 1
                    else:
                        left.remove(found)
                    filled.append(found)
                job.append(filled)
                break
        else:
            jobs.append([circuit])
    return jobs, idle


def _batch(circuits: list[list[_Block]]) -> CircuitBatch:
    """Return circuits of equal structure as one batch: blocks side by side."""
    steps: list[Step] = []
    qubit = angle = 0
    for block in circuits[0]:
        steps += [_placed(step, qubit, angle) for step in block.template.steps]
        qubit += block.qubits
        angle += block.template.angle_count
    template = Template(content_key(qubit, tuple(steps)), qubit, tuple(steps))
    return CircuitBatch(
        template, np.array([np.concatenate([block.angles for block in circuit]) for circuit in circuits])
    )


def _placed(step: Step, qubit: int, angle: int) -> Step:
    """Return a step on qubits and angles that are moved up."""
    if isinstance(step, CX):
        return CX(step.control + qubit, step.target + qubit)
    if isinstance(step, H):
        return H(step.target + qubit)
    if isinstance(step, Rotation):
        return Rotation(step.name, tuple(q + qubit for q in step.qubits), step.first_angle + angle)
    return MultiplexedRY(step.target + qubit, tuple(q + qubit for q in step.controls), step.first_angle + angle)


def _seats(jobs: list[list[list[_Block]]]) -> dict[str, tuple[tuple[int, int, Seat], ...]]:
    seats: dict[str, tuple[tuple[int, int, Seat], ...]] = {}
    for job, circuits in enumerate(jobs):
        for row, circuit in enumerate(circuits):
            for block, end in zip(circuit, accumulate(block.qubits for block in circuit), strict=True):
                first = end - block.qubits
                for name, seat in block.seats.items():
                    member = None if seat.member is None else seat.member + first
                    moved = Seat(member, tuple(qubit + first for qubit in seat.register))
                    seats[name] = (*seats.get(name, ()), (job, row, moved))
    return seats


def _effort(jobs: Sequence[tuple[Template, int]], shots: int) -> Effort:
    circuits = sum(rows for _, rows in jobs)
    two = sum(template.two_qubit_gates * rows for template, rows in jobs)
    gates = sum(len(template.structure) * rows for template, rows in jobs)
    widest = max(template.num_qubits for template, _ in jobs)
    return Effort(len(jobs), circuits, circuits * shots, widest, gates - two, two)
