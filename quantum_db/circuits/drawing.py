"""Circuit structures for people and for other tools: as text, as a picture, as OpenQASM 3. By qiskit's own means.

Qiskit is imported with this module, not where it is used: imported first in a thread that ends, it crashes the process
when another thread uses it (2.6.2).
"""

from __future__ import annotations

import io
from typing import Final

from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import ParameterVector

from quantum_db.circuits.template import ROTATION_GATES, Template
from quantum_db.errors import InvalidRequest

FORMS: Final = {"text": "text/plain; charset=utf-8", "svg": "image/svg+xml", "qasm3": "text/plain; charset=utf-8"}
"""Form -> media type."""

MAX_DRAWN_GATES: Final = 2_000
_TEXT_WIDTH: Final = 140


def draw(template: Template, form: str) -> str:
    """Return the structure, with angles as parameters and every qubit measured, in one of ``FORMS``.

    Raises:
        InvalidRequest: the form is unknown, or the circuit is too large for a picture.
    """
    if form not in FORMS:
        raise InvalidRequest.at("format", f"must be one of {', '.join(FORMS)}, not {form!r:.40}")
    gates = len(template.structure)
    if form != "qasm3" and gates > MAX_DRAWN_GATES:
        raise InvalidRequest.at("format", f"{form} shows up to {MAX_DRAWN_GATES} gates, this has {gates}; take qasm3")
    circuit = to_qiskit(template)
    if form == "text":
        return str(circuit.draw("text", fold=_TEXT_WIDTH))
    if form == "svg":
        return _svg(circuit)
    return str(qasm3.dumps(circuit))


def to_qiskit(template: Template) -> QuantumCircuit:
    """Return the structure as a measured circuit; its parameters are the gate angles in order, ``angle[0]`` first."""
    qubits = template.num_qubits
    rotations = sum(name in ROTATION_GATES for name, _ in template.structure)
    angles = iter(ParameterVector("angle", rotations))
    circuit = QuantumCircuit(qubits, qubits, name=template.key)
    for name, places in template.structure:
        arguments = (next(angles), *places) if name in ROTATION_GATES else places
        getattr(circuit, name)(*arguments)
    circuit.measure(range(qubits), range(qubits))
    return circuit


def _svg(circuit: QuantumCircuit) -> str:
    figure = circuit.draw("mpl", fold=30)
    picture = io.StringIO()
    figure.savefig(picture, format="svg", bbox_inches="tight")
    return picture.getvalue()
