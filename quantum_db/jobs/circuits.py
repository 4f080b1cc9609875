r"""Circuits that a user sends, in OpenQASM 3 or in IonQ's JSON, and their way to the product's own form.

[{"format": "qasm3", "source": "OPENQASM 3; include \"stdgates.inc\"; qubit[2] q; h q[0]; cx q[0], q[1];"},
 {"format": "ionq", "qubits": 2, "circuit": [{"gate": "h", "target": 0}, {"gate": "cnot", "control": 0, "target": 1}]}]

Every circuit starts in |0...0>, and all its qubits are measured at its end, whatever it measures by itself: qubit 0 is
the lowest bit of an outcome, and classical bits play no part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag

from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import FieldError, InvalidCircuit
from quantum_db.ionq.gate_simulator import CircuitReader
from quantum_db.jobs.lowering import MAX_GATES, Lowered, ionq_structure, lower, lowering_passes
from quantum_db.jobs.qasm import MAX_SOURCE_CHARS, QasmReader
from quantum_db.requests import Body

MAX_CIRCUITS: Final = 5_000
MAX_CIRCUIT_QUBITS: Final = 64
MAX_TOTAL_GATES: Final = 500_000
"""Of all circuits of a job together, once they are lowered."""


class QasmCircuit(Body):
    """An OpenQASM 3 program: gates with numbers as angles, and then measurements, or none."""

    format: Literal["qasm3"]
    source: Annotated[str, Field(max_length=MAX_SOURCE_CHARS)]


class IonqCircuit(Body):
    """Gates of IonQ's QIS gate set, as in the ``input`` of IonQ's API."""

    format: Literal["ionq"]
    qubits: Annotated[int, Field(ge=1, le=MAX_CIRCUIT_QUBITS)]
    circuit: Annotated[list[Any], Field(max_length=MAX_GATES)]


def _tag(value: Any) -> str:
    found = value.get("format") if isinstance(value, dict) else getattr(value, "format", None)
    return f"#{found}"


CircuitEntry = Annotated[
    Annotated[QasmCircuit, Tag("#qasm3")] | Annotated[IonqCircuit, Tag("#ionq")],
    Discriminator(_tag, custom_error_type="refused", custom_error_message="format must be qasm3 or ionq"),
]


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """One circuit: its structure, and the values of the structure's parameters."""

    lowered: Lowered
    values: tuple[float, ...]


def to_parts(entries: Sequence[QasmCircuit | IonqCircuit], max_qubits: int) -> tuple[CircuitBatch, ...]:
    """Return the circuits in their order; neighbours of one structure are rows of one batch.

    Deterministic. Works for some ten seconds on the largest input that is taken: to be called in a thread.

    Raises:
        InvalidCircuit: naming the circuit, such as ``circuits[3]``, and what is wrong with it.
    """
    circuits = list(_Conversion(max_qubits).all(entries))
    parts = []
    for _, neighbours in groupby(circuits, lambda circuit: circuit.lowered.template.key):
        runs = [list(run) for _, run in groupby(neighbours, lambda circuit: id(circuit.lowered))]
        rows = [run[0].lowered.bind(np.array([circuit.values for circuit in run], dtype=np.float64)) for run in runs]
        parts.append(CircuitBatch(runs[0][0].lowered.template, np.concatenate(rows)))
    return tuple(parts)


class _Conversion:
    """The conversion of one job: what is sent twice is converted once."""

    def __init__(self, max_qubits: int) -> None:
        self._max_qubits = max_qubits
        self._qasm = QasmReader(max_qubits)
        self._ionq = CircuitReader(max_qubits)
        self._passes = lowering_passes()
        self._programs: dict[str, Lowered] = {}
        self._structures: dict[tuple[int, int], Lowered] = {}
        self._gates = MAX_TOTAL_GATES

    def all(self, entries: Sequence[QasmCircuit | IonqCircuit]) -> Iterator[_Bound]:
        """Yield the circuits in order. Raises InvalidCircuit."""
        for index, entry in enumerate(entries):
            where = f"circuits[{index}]"
            try:
                found = self._program(entry) if isinstance(entry, QasmCircuit) else self._gate_list(entry, where)
            except InvalidCircuit as error:
                raise _placed(error.detail, where) from None
            self._gates -= len(found.lowered.template.steps)
            if self._gates < 0:
                raise _placed(f"the circuits up to this one have more than {MAX_TOTAL_GATES} gates", where)
            yield found

    def _program(self, entry: QasmCircuit) -> _Bound:
        lowered = self._programs.get(entry.source)
        if lowered is None:
            lowered = lower(self._qasm.read(entry.source), self._passes)
            self._programs[entry.source] = lowered
        return _Bound(lowered, ())

    def _gate_list(self, entry: IonqCircuit, where: str) -> _Bound:
        if entry.qubits > self._max_qubits:
            raise InvalidCircuit(f"has {entry.qubits} qubits, and the backend takes {self._max_qubits}")
        circuit = self._ionq.read(entry.circuit, entry.qubits, f"{where}.circuit")
        structure = (entry.qubits, id(circuit.gates))  # the reader keeps one tuple of gates for all that are equal
        lowered = self._structures.get(structure)
        if lowered is None:
            lowered = lower(ionq_structure(entry.qubits, circuit.gates), self._passes)
            self._structures[structure] = lowered
        return _Bound(lowered, circuit.angles)


def _placed(detail: str, where: str) -> InvalidCircuit:
    """Return the error with the circuit's place in front, if it is not there yet, and as a field error."""
    found = re.match(rf"({re.escape(where)}[^:\s]*): (.*)", detail, re.DOTALL)
    path, message = found.groups() if found else (where, detail)
    return InvalidCircuit(f"{path}: {message}", errors=[FieldError(path, message)])
