"""What is sent to IonQ: circuits as qiskit-ionq writes them, with names to match the results by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson
from qiskit import QuantumCircuit
from qiskit_ionq.helpers import qiskit_to_ionq

from quantum_db.circuits.drawing import to_qiskit
from quantum_db.circuits.template import ROTATION_GATES, CircuitBatch, Template
from quantum_db.errors import InvalidCircuit

JOB_KEY: Final = "job_key"
MAX_METADATA_KEYS: Final = 10
MAX_METADATA_KEY_CHARS: Final = 40
MAX_METADATA_VALUE_CHARS: Final = 40_000
_QIS_GATES: Final = ROTATION_GATES | {"cx", "h"}


def qiskit_circuits(batch: CircuitBatch) -> list[QuantumCircuit]:
    """Return the batch for qiskit, all circuits from one structure.

    Raises InvalidCircuit for a gate that IonQ's QIS gate set does not have.
    """
    structure = _structure(batch.template)
    return [structure.assign_parameters(row.tolist()) for row in batch.template.gate_angles(batch.angles)]


@lru_cache(maxsize=64)
def _structure(template: Template) -> QuantumCircuit:
    """Return the structure with its angles as parameters."""
    unknown = {name for name, _ in template.structure} - _QIS_GATES
    if unknown:
        raise InvalidCircuit(f"the gate {min(unknown)!r} cannot be written for IonQ")
    return to_qiskit(template)


def metadata(job_key: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return a job's metadata. Raises InvalidCircuit where it is more than IonQ keeps."""
    found = {**labels, JOB_KEY: job_key}
    if len(found) != len(labels) + 1 or len(found) > MAX_METADATA_KEYS:
        raise InvalidCircuit(f"a job may have {MAX_METADATA_KEYS - 1} labels, none of them named {JOB_KEY}")
    try:
        "".join([*found, *found.values()]).encode()
    except UnicodeEncodeError as error:
        raise InvalidCircuit("the labels and the key of a job must be text that has a UTF-8 form") from error
    for name, value in found.items():
        if len(name) > MAX_METADATA_KEY_CHARS or len(value) > MAX_METADATA_VALUE_CHARS:
            raise InvalidCircuit(
                f"the label {name[:MAX_METADATA_KEY_CHARS]} is too long: names may have {MAX_METADATA_KEY_CHARS} "
                f"characters, values {MAX_METADATA_VALUE_CHARS}"
            )
    return found


def payload(job: Any) -> bytes:
    """Return the body of a submission for a qiskit-ionq job.

    Each circuit of several has its number as its name, and its own qubits. The metadata is the job's own alone:
    qiskit-ionq's header serves its result objects, which are not used here; at 5,000 circuits it has 20,000 characters,
    and IonQ repeats a job's metadata in each of its children, so that listing them would be 100 MB.
    """
    body = orjson.loads(
        qiskit_to_ionq(job.circuit, job.backend(), job._passed_args, job.extra_query_params, job.extra_metadata)
    )
    body["metadata"] = job.extra_metadata
    if not isinstance(job.circuit, list):
        body["input"]["qubits"] = job.circuit.num_qubits
        return orjson.dumps(body)
    for number, (entry, circuit) in enumerate(zip(body["input"]["circuits"], job.circuit, strict=True)):
        entry["name"] = str(number)
        entry["qubits"] = circuit.num_qubits
    body["input"]["qubits"] = max(circuit.num_qubits for circuit in job.circuit)
    return orjson.dumps(body)
