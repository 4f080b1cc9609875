"""What may be submitted to the emulator: a job's JSON is checked here, and refused as IonQ would or with the reason.

Nothing that a payload asks for is silently ignored: what the emulator cannot do is a 400.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from quantum_db.circuits.noise import IDEAL, NOISE_MODELS, NoiseModel
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq.emulated_noise import MAX_NOISY_QUBITS, QPU_NOISE
from quantum_db.ionq.gate_simulator import MAX_QUBITS, Circuit, CircuitReader, Gate

SINGLE: Final = "ionq.circuit.v1"
MULTI: Final = "ionq.multi-circuit.v1"
SIMULATOR: Final = "simulator"
DEFAULT_SHOTS: Final = 100

_FIELDS: Final = frozenset(
    {"type", "backend", "shots", "name", "input", "session_id", "metadata", "noise", "settings", "dry_run"}
)
_MIN_DEBIASING_SHOTS: Final = 500
_MAX_SEED: Final = 2**31


class ApiError(Exception):
    """An answer of the emulator that is an HTTP error; ``keys`` are the fields at fault."""

    def __init__(self, status: int, message: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.keys = keys


@dataclass(frozen=True, slots=True)
class EmulatorLimits:
    """What one job may hold.

    ``circuits``, ``gates`` and the metadata limits are IonQ's. ``outcomes`` (sum of 2^qubits), ``updates`` (gates times
    2^qubits, with noise 4^qubits) and ``noisy_qubits`` are the emulator's own: they bound the memory and the time of a
    simulation.
    """

    body_bytes: int = 32 * 1024 * 1024
    qubits: int = MAX_QUBITS
    noisy_qubits: int = MAX_NOISY_QUBITS
    circuits: int = 5_000
    gates: int = 150_000
    shots: int = 1_000_000
    outcomes: int = 1 << 22
    updates: int = 20_000_000_000
    metadata_keys: int = 10
    metadata_key_chars: int = 40
    metadata_value_chars: int = 40_000


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A checked submission. ``noise_seed`` is that of the shots, if the submission has one."""

    backend: str
    multi: bool
    noise: NoiseModel
    noise_seed: int | None
    circuits: tuple[Circuit, ...]
    circuit_names: tuple[str | None, ...]
    shots: int
    name: str | None
    metadata: Mapping[str, str] | None
    session_id: str | None
    settings: Mapping[str, Any]

    @property
    def is_simulator(self) -> bool:
        """Whether the target is the simulator, not a machine."""
        return self.backend == SIMULATOR

    @property
    def samples(self) -> bool:
        """Whether frequencies of shots are returned; else exact probabilities."""
        return not self.is_simulator or not self.noise.is_ideal

    @property
    def mitigated(self) -> bool:
        """Whether error mitigation was asked for. Taken only without noise, where it changes the price only."""
        return bool(self.settings.get("error_mitigation", {}).get("debiasing", False))

    def gate_counts(self) -> tuple[int, int]:
        """Return the number of one-qubit and of two-qubit gates over all circuits, as IonQ bills them."""
        counts: dict[int, tuple[int, int]] = {}  # circuits of one structure share the tuple of their gates
        totals = [0, 0]
        for circuit in self.circuits:
            found = counts.get(id(circuit.gates))
            if found is None:
                found = counts[id(circuit.gates)] = _billed(circuit.gates)
            totals[0] += found[0]
            totals[1] += found[1]
        return totals[0], totals[1]


def _billed(gates: tuple[Gate, ...]) -> tuple[int, int]:
    """Return the one- and two-qubit gates; a gate on n > 2 qubits is billed as 6 * (n - 2) two-qubit gates."""
    wide = [gate.qubits for gate in gates if gate.qubits > 1]
    return len(gates) - len(wide), sum(1 if qubits == 2 else 6 * (qubits - 2) for qubits in wide)


def parse_job(
    payload: object, limits: EmulatorLimits, backends: Collection[str], *, noisy_qpus: bool = False
) -> JobSpec:
    """Return the checked submission; with ``noisy_qpus``, machines have the noise of their names.

    Raises ApiError with status 400 and the reason.
    """
    if not isinstance(payload, dict):
        raise ApiError(400, "the body must be a JSON object")
    _no_others(payload, _FIELDS, "")
    backend = payload.get("backend")
    if not isinstance(backend, str) or backend not in backends:
        raise ApiError(400, f"backend must be one of {', '.join(backends)}", ("backend",))
    if payload.get("type") not in {SINGLE, MULTI}:
        raise ApiError(400, f"type must be {SINGLE} or {MULTI}; the emulator takes no other", ("type",))
    if payload.get("dry_run") not in {None, False}:
        raise ApiError(400, "the emulator has no compiler, so it takes no dry_run", ("dry_run",))
    noise, noise_seed = _noise(payload.get("noise"), backend)
    if noisy_qpus and backend != SIMULATOR:
        noise = QPU_NOISE[backend]
    shots = _shots(payload.get("shots"), limits)
    multi = payload["type"] == MULTI
    circuits, names = _circuits(payload.get("input"), multi, limits, noise)
    return JobSpec(
        backend=backend,
        multi=multi,
        noise=noise,
        noise_seed=noise_seed,
        circuits=circuits,
        circuit_names=names,
        shots=shots,
        name=_optional_text(payload, "name"),
        metadata=_metadata(payload.get("metadata"), limits),
        session_id=_optional_text(payload, "session_id"),
        settings=_settings(payload.get("settings"), shots, noise),
    )


def _no_others(raw: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ApiError(400, f"the emulator does not know {', '.join(where + name for name in unknown)}", tuple(unknown))


def _optional_text(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, f"{name} must be a string", (name,))
    return value


def _shots(value: object, limits: EmulatorLimits) -> int:
    if value is None:
        return DEFAULT_SHOTS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limits.shots:
        raise ApiError(400, f"shots must be a whole number from 1 to {limits.shots}", ("shots",))
    return value


def _noise(raw: object, backend: str) -> tuple[NoiseModel, int | None]:
    """Return the noise model and the seed that a submission asks for."""
    if raw is None:
        return IDEAL, None
    if not isinstance(raw, dict):
        raise ApiError(400, "noise must be an object", ("noise",))
    _no_others(raw, {"model", "seed"}, "noise.")
    if backend != SIMULATOR:
        raise ApiError(400, f"noise is for the backend {SIMULATOR} only", ("noise",))
    name, seed = raw.get("model", IDEAL.name), raw.get("seed")
    if not isinstance(name, str) or name not in NOISE_MODELS:
        raise ApiError(400, f"noise model {name!r} is not emulated; there are {', '.join(NOISE_MODELS)}", ("noise",))
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MAX_SEED):
        raise ApiError(400, f"noise.seed must be a whole number from 0 to {_MAX_SEED}", ("noise",))
    return NOISE_MODELS[name], seed


def _metadata(raw: object, limits: EmulatorLimits) -> Mapping[str, str] | None:
    if raw is None:
        return None
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise ApiError(400, "metadata must be an object of strings", ("metadata",))
    if len(raw) > limits.metadata_keys:
        raise ApiError(400, f"metadata has {len(raw)} keys; {limits.metadata_keys} are allowed", ("metadata",))
    for key, value in raw.items():
        if len(key) > limits.metadata_key_chars or len(value) > limits.metadata_value_chars:
            raise ApiError(
                400,
                f"metadata.{key[:40]}: names have at most {limits.metadata_key_chars} characters, "
                f"values {limits.metadata_value_chars}",
                ("metadata",),
            )
    return raw


def _settings(raw: object, shots: int, noise: NoiseModel) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ApiError(400, "settings must be an object", ("settings",))
    _no_others(raw, {"error_mitigation"}, "settings.")
    mitigation = raw.get("error_mitigation", {})
    if not isinstance(mitigation, dict):
        raise ApiError(400, "settings.error_mitigation must be an object", ("settings",))
    _no_others(mitigation, {"debiasing"}, "settings.error_mitigation.")
    debiasing = mitigation.get("debiasing", False)
    if not isinstance(debiasing, bool):
        raise ApiError(400, "settings.error_mitigation.debiasing must be true or false", ("settings",))
    if debiasing and shots < _MIN_DEBIASING_SHOTS:
        raise ApiError(400, f"debiasing needs at least {_MIN_DEBIASING_SHOTS} shots", ("settings", "shots"))
    if debiasing and not noise.is_ideal:
        raise ApiError(400, f"debiasing is not emulated under the noise of {noise.name}", ("settings",))
    return raw


def _circuits(
    raw: object, multi: bool, limits: EmulatorLimits, noise: NoiseModel
) -> tuple[tuple[Circuit, ...], tuple[str | None, ...]]:
    if not isinstance(raw, dict):
        raise ApiError(400, "input must be an object", ("input",))
    _no_others(raw, {"gateset", "qubits", "circuits" if multi else "circuit"}, "input.")
    _check_gateset(raw, "input")
    entries = raw.get("circuits") if multi else [{"circuit": raw.get("circuit")}]
    if not isinstance(entries, list) or not 1 <= len(entries) <= limits.circuits:
        raise ApiError(400, f"input.circuits must hold from 1 to {limits.circuits} circuits", ("input",))
    reader = CircuitReader(limits.qubits)
    circuits: list[Circuit] = []
    names: list[str | None] = []
    gates = outcomes = updates = 0
    for index, entry in enumerate(entries):
        where = f"input.circuits[{index}]" if multi else "input"
        circuit = _circuit(entry, raw.get("qubits"), reader, where)
        if not noise.is_ideal:
            _check_noisy(circuit, limits, where)
        circuits.append(circuit)
        names.append(_optional_text(entry, "name"))
        gates += len(circuit.gates)
        outcomes += 1 << circuit.qubits
        updates += len(circuit.gates) << (circuit.qubits if noise.is_ideal else 2 * circuit.qubits)
        if gates > limits.gates:
            raise ApiError(400, f"a job may hold {limits.gates} gates over all circuits", ("input",))
        if outcomes > limits.outcomes or updates > limits.updates:
            raise ApiError(400, "the circuits of this job are too large to emulate together", ("input",))
    return tuple(circuits), tuple(names)


def _check_noisy(circuit: Circuit, limits: EmulatorLimits, where: str) -> None:
    if circuit.qubits > limits.noisy_qubits:
        raise ApiError(
            400,
            f"{where} has {circuit.qubits} qubits; with noise at most {limits.noisy_qubits} are emulated",
            ("input",),
        )
    if any(gate.qubits > 2 for gate in circuit.gates):
        raise ApiError(400, f"{where}: with noise, gates may act on one or two qubits; write others so", ("input",))


def _circuit(entry: object, qubits: object, reader: CircuitReader, where: str) -> Circuit:
    if not isinstance(entry, dict):
        raise ApiError(400, f"{where} must be an object", ("input",))
    _no_others(entry, {"name", "gateset", "qubits", "circuit"}, f"{where}.")
    _check_gateset(entry, where)
    qubits = entry.get("qubits", qubits)
    if isinstance(qubits, bool) or not isinstance(qubits, int):
        raise ApiError(400, f"{where}.qubits must be a whole number", ("input",))
    try:
        return reader.read(entry.get("circuit"), qubits, f"{where}.circuit")
    except InvalidCircuit as error:
        raise ApiError(400, error.detail, ("input",)) from None


def _check_gateset(raw: Mapping[str, Any], where: str) -> None:
    if raw.get("gateset", "qis") != "qis":
        raise ApiError(400, f"{where}.gateset must be qis; native gates are not emulated", ("input",))
