"""QAOA for small QUBOs: a demonstration of a gate-model optimiser, and no more than that.

The angles are found by gradient ascent on the exact expectation, for which the values of all feasible selections are
listed. Who can do that knows the optimum already, so nothing is gained over `quantum_db.tunneling`; what is shown is
a real circuit, its shots, and how likely one of them is the optimum. The circuits are in
`quantum_db.circuits.qaoa_ansatz`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendResult, QuantumBackend
from quantum_db.circuits.qaoa_ansatz import Floats, Mixer, Qubo, qaoa_ansatz, rings
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidRequest
from quantum_db.tunneling import Selection

Indices = NDArray[np.intp]
Amplitudes = NDArray[np.complex128]

MAX_LAYERS: Final = 32
STARTS: Final = 8
STEPS: Final = 120

_RATE: Final = 0.05
_TIE: Final = 1e-9
"""Values of f this near to each other, relative to their spread, are equal."""


@dataclass(frozen=True, slots=True, eq=False)
class _Landscape:
    """The ansatz in the space that it never leaves, of B outcomes: all of them, or the feasible ones.

    Attributes:
        outcomes: (B,).
        values: (B,) of f in units of the scale, with the penalty where there is one; centred.
        moves: for each gate of a mixer layer, the rows that it turns and the rows that these turn into.
    """

    outcomes: NDArray[np.int64]
    values: Floats
    scale: float
    moves: tuple[tuple[Indices | slice, Indices], ...]

    @classmethod
    def build(cls, problem: Qubo, mixer: Mixer) -> _Landscape:
        n = problem.variables
        outcomes = np.arange(1 << n, dtype=np.int64)
        cost = problem.penalised()
        flips = [1 << qubit for qubit in range(n)]
        if mixer == "xy-ring":
            outcomes, cost = outcomes[problem.feasible(outcomes)], problem
            flips = [(1 << a) | (1 << b) for a, b in rings(problem)]
        place = np.zeros(1 << n, dtype=np.intp)
        place[outcomes] = np.arange(len(outcomes))
        moves: list[tuple[Indices | slice, Indices]] = []
        for flip in flips:
            touched = outcomes & flip
            rows = np.flatnonzero((touched != 0) & (touched != flip)) if mixer == "xy-ring" else slice(None)
            moves.append((rows, place[outcomes[rows] ^ flip]))
        values = cost.values(outcomes)
        scale = float(values.std()) or 1.0
        return cls(outcomes, np.asarray((values - values.mean()) / scale), scale, tuple(moves))

    def state(self, parameters: Floats) -> Amplitudes:
        """Return the final amplitudes for (K, 2p) parameters, (B, K)."""
        size = len(self.outcomes)
        state = np.full((size, len(parameters)), size**-0.5, dtype=np.complex128)
        layers = parameters.shape[1] // 2
        for layer in range(layers):
            state *= np.exp(1j * np.outer(self.values, parameters[:, layer]))
            for move in self.moves:
                _turn(state, move, parameters[:, layers + layer])
        return state

    def gradient(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return the expectation of the values, (K,), and its gradient, (K, 2p).

        One pass back through the circuit gives all derivatives (Jones and Gacon, arXiv:2009.02823): for a gate
        exp(-i t G), d<f>/dt = 2 Im <f psi| G |psi>, both taken behind the gate.
        """
        state = self.state(parameters)
        bra = self.values[:, None] * state
        expectation = np.asarray(_overlap(bra, state).real, dtype=np.float64)
        layers = parameters.shape[1] // 2
        gradient = np.zeros_like(parameters)
        for layer in reversed(range(layers)):
            angles = parameters[:, layers + layer]
            for move in reversed(self.moves):
                rows, partners = move
                gradient[:, layers + layer] += 2.0 * _overlap(bra[rows], state[partners]).imag
                _turn(state, move, -angles)
                _turn(bra, move, -angles)
            gradient[:, layer] = -2.0 * _overlap(bra, self.values[:, None] * state).imag
            back = np.exp(-1j * np.outer(self.values, parameters[:, layer]))
            state *= back
            bra *= back
        return expectation, gradient


def _overlap(bra: Amplitudes, ket: Amplitudes) -> Amplitudes:
    """Return the inner product of each column, (K,)."""
    return np.asarray(np.einsum("bk,bk->k", bra.conj(), ket))


def _turn(state: Amplitudes, move: tuple[Indices | slice, Indices], angles: Floats) -> None:
    """Apply exp(-i b G) in place, where G exchanges the rows of a move with their partners."""
    rows, partners = move
    turned = state[partners] * (-1j * np.sin(angles))
    turned += np.cos(angles) * state[rows]
    state[rows] = turned


def _ascend(landscape: _Landscape, layers: int, rng: np.random.Generator) -> Floats:
    """Return the best parameters met, (2p,), by Adam (Kingma, Ba, arXiv:1412.6980) from several annealing ramps.

    The ramps raise g and lower b linearly (Sack, Serbyn, Quantum 5, 491, 2021), with drawn slopes.
    """
    rise = (np.arange(layers) + 0.5) / layers
    slopes = rng.uniform(0.2, 1.2, size=(2, STARTS, 1))
    signs = np.where(np.arange(STARTS) % 2, 1.0, -1.0)[:, None]  # which sign of b mixes best depends on the mixer
    parameters = np.concatenate([slopes[0] * rise, signs * slopes[1] * (1.0 - rise)], axis=1)
    best: Floats = parameters[0].copy()
    best_value = -math.inf
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    for step in range(1, STEPS + 1):
        values, gradient = landscape.gradient(parameters)
        top = int(values.argmax())
        if values[top] > best_value:
            best, best_value = parameters[top].copy(), float(values[top])
        first += 0.1 * (gradient - first)
        second += 0.01 * (gradient**2 - second)
        scaled = first / (1.0 - 0.9**step) / (np.sqrt(second / (1.0 - 0.99**step)) + 1e-8)
        parameters += _RATE * scaled
    return best


@dataclass(frozen=True, slots=True, eq=False)
class QaoaPlan:
    """One bound circuit and what an ideal machine gives with it.

    Attributes:
        batch: the circuit.
        parameters: (2p,), g_1..g_p then b_1..b_p, in radians.
        expectation: mean of f over the feasible outcomes of a shot.
        feasible_probability: that a shot is feasible; 1 with ``xy-ring``.
        optimal_from: f from which a selection counts as an optimum: the largest one, less rounding. It is known,
            because all feasible selections were listed to find the angles.
        optimum_probability: that a shot has it.
        uniform_probability: that one uniform draw of a feasible selection has it: what a circuit must beat.
    """

    problem: Qubo
    mixer: Mixer
    layers: int
    batch: CircuitBatch
    parameters: Floats
    expectation: float
    feasible_probability: float
    optimal_from: float
    optimum_probability: float
    uniform_probability: float


def plan_qaoa(problem: Qubo, layers: int, rng: np.random.Generator, mixer: Mixer | None = None) -> QaoaPlan:
    """Find angles for a problem and bind its circuit.

    Args:
        mixer: ``xy-ring`` where there is a cardinality or are sectors, else ``x``, unless given.

    Raises:
        InvalidRequest: a number of layers outside 1 to ``MAX_LAYERS``, or ``xy-ring`` without a cardinality or sectors.
    """
    if not 1 <= layers <= MAX_LAYERS:
        raise InvalidRequest.at("layers", f"must be from 1 to {MAX_LAYERS}, not {layers}")
    mixer = mixer or ("xy-ring" if problem.conserved else "x")
    if mixer == "xy-ring" and not problem.conserved:
        raise InvalidRequest.at("mixer", "xy-ring needs a cardinality or sectors")
    landscape = _Landscape.build(problem, mixer)
    parameters = _ascend(landscape, layers, rng)
    amplitudes = landscape.state(parameters[None, :])[:, 0]
    shares = amplitudes.real**2 + amplitudes.imag**2
    feasible = problem.feasible(landscape.outcomes)
    values = problem.values(landscape.outcomes)
    optimum = float(values[feasible].max())
    tolerance = _TIE * (float(np.ptp(values[feasible])) or 1.0)
    is_optimal = feasible & (values >= optimum - tolerance)
    return QaoaPlan(
        problem,
        mixer,
        layers,
        qaoa_ansatz(problem, layers, mixer, landscape.scale).bind(parameters[None, :]),
        parameters,
        float(shares[feasible] @ values[feasible] / shares[feasible].sum()),
        float(shares[feasible].sum()),
        optimum - tolerance,
        float(shares[is_optimal].sum()),
        float(is_optimal.sum() / feasible.sum()),
    )


@dataclass(frozen=True, slots=True)
class QaoaResult:
    """What was sampled. The answer is the best feasible selection among the shots, and nothing else.

    Attributes:
        selection: None where no shot was feasible.
        optimum_shots: how many shots were an optimum.
    """

    selection: Selection | None
    shots: int
    feasible_shots: int
    optimum_shots: int


def read_counts(plan: QaoaPlan, counts: Mapping[int, int]) -> QaoaResult:
    """Return what the counts of a plan's circuit say; see ``read_sample``."""
    return read_sample(plan.problem, plan.optimal_from, counts)


def read_sample(problem: Qubo, optimal_from: float, counts: Mapping[int, int]) -> QaoaResult:
    """Return the best feasible selection among the outcomes; of equals the lowest outcome.

    Args:
        optimal_from: see ``QaoaPlan``.

    Raises:
        InvalidRequest: there are no shots.
    """
    shots = sum(counts.values())
    if shots < 1:
        raise InvalidRequest.at("counts", "hold no shots")
    outcomes = np.array(sorted(outcome for outcome, number in counts.items() if number > 0), dtype=np.int64)
    outcomes = outcomes[problem.feasible(outcomes)]
    if not len(outcomes):
        return QaoaResult(None, shots, 0, 0)
    values = problem.values(outcomes)
    numbers = np.array([counts[int(outcome)] for outcome in outcomes])
    best = int(values.argmax())
    chosen = [i for i in range(problem.variables) if int(outcomes[best]) >> i & 1]
    chosen.sort(key=lambda i: (-problem.linear[i], i))
    at_optimum = values >= optimal_from
    selection = Selection(tuple(chosen), float(values[best]), "QAOA")
    return QaoaResult(selection, shots, int(numbers.sum()), int(numbers[at_optimum].sum()))


def run_qaoa(
    plan: QaoaPlan, backend: QuantumBackend, shots: int, *, job_key: str, timeout_s: float
) -> tuple[QaoaResult, BackendResult]:
    """Sample a plan's circuit on a backend; raises what ``QuantumBackend.run`` raises."""
    result = backend.run(plan.batch, shots, job_key=job_key, timeout_s=timeout_s)
    return read_counts(plan, result.counts[0]), result
