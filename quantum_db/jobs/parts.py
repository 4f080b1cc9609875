"""Circuits as JSON, for a journal, and their digests. Exact: every angle comes back bit by bit.

{"version": 1, "checksum": "9f86d0...", "parts": [
  {"qubits": 2, "steps": [["h", 0], ["cx", 0, 1], ["ry", 0, 1], ["rzz", 1, 0, 1]], "rows": 1, "angles": "AAAAAAAA..."}]}

A step is its name, then the place of its first angle if it has one, then its qubits: of ``ry`` the target and the
controls, of ``cx`` control and target. Angles are little-endian float64 in base64, row by row.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np

from quantum_db.circuits.template import (
    CX,
    CircuitBatch,
    H,
    MultiplexedRY,
    Rotation,
    RotationName,
    Step,
    Template,
    content_key,
)
from quantum_db.errors import CorruptData, InvalidCircuit

VERSION: Final = 1
_HEX_DIGITS: Final = 32


def parts_to_json(parts: Sequence[CircuitBatch]) -> dict[str, Any]:
    """Return the circuits as JSON values; ``parts_from_json`` gives equal ones."""
    written = [
        {
            "qubits": part.template.num_qubits,
            "steps": [_written(step) for step in part.template.steps],
            "rows": len(part),
            "angles": base64.b64encode(part.angles.astype("<f8").tobytes()).decode(),
        }
        for part in parts
    ]
    return {"version": VERSION, "checksum": _checksum(written), "parts": written}


def parts_from_json(raw: object) -> tuple[CircuitBatch, ...]:
    """Return the circuits that were written.

    Raises:
        CorruptData: what is there was not written by ``parts_to_json`` of this version, or was changed since.
    """
    if not isinstance(raw, Mapping) or raw.get("version") != VERSION:
        raise CorruptData(f"stored circuits must be an object of version {VERSION}")
    if raw.get("checksum") != _checksum(raw.get("parts")):
        raise CorruptData("stored circuits are damaged: their checksum is not that of their content")
    try:
        return tuple(_part(part) for part in raw["parts"])
    except (LookupError, TypeError, ValueError, InvalidCircuit) as error:
        raise CorruptData(f"stored circuits cannot be read: {error}") from error


def circuit_digests(batch: CircuitBatch) -> list[str]:
    """Return 32 hex digits for each circuit: equal in every process for equal structure and angles (-0.0 is 0.0)."""
    structure = hashlib.sha256(batch.template.key.encode())
    digests = []
    for row in np.ascontiguousarray(batch.angles, dtype="<f8") + 0.0:  # -0.0 + 0.0 is 0.0
        circuit = structure.copy()
        circuit.update(row)
        digests.append(circuit.hexdigest()[:_HEX_DIGITS])
    return digests


def _checksum(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_HEX_DIGITS]


def _written(step: Step) -> list[str | int]:
    if isinstance(step, MultiplexedRY):
        return ["ry", step.first_angle, *step.qubits]
    if isinstance(step, Rotation):
        return [step.name, step.first_angle, *step.qubits]
    return ["cx" if isinstance(step, CX) else "h", *step.qubits]


def _part(raw: Mapping[str, Any]) -> CircuitBatch:
    qubits, rows = _whole(raw["qubits"]), _whole(raw["rows"])
    steps = tuple(_read(step) for step in raw["steps"])
    template = Template(content_key(qubits, steps), qubits, steps)
    angles = np.frombuffer(base64.b64decode(raw["angles"], validate=True), dtype="<f8")
    return CircuitBatch(template, angles.reshape(rows, template.angle_count).astype(np.float64))


def _read(raw: Sequence[Any]) -> Step:
    name, numbers = raw[0], [_whole(number) for number in raw[1:]]
    if name == "ry":
        first_angle, target, *controls = numbers
        return MultiplexedRY(target, tuple(controls), first_angle)
    if name == "cx":
        control, target = numbers
        return CX(control, target)
    if name == "h":
        (target,) = numbers
        return H(target)
    first_angle, *qubits = numbers
    return Rotation(cast(RotationName, name), tuple(qubits), first_angle)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r:.60} is not a whole number from 0")
    return value
