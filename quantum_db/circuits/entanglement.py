"""A group's circuit: one qubit for each member, and <ZZ> = s for every pair. Its estimates, and a CHSH test.

**The family.** Prepare (|0...0> + |1...1>)/sqrt(2) on m qubits, then turn qubit i by RY(t_i). In the Heisenberg
picture RY(t)^dagger Z RY(t) = cos t Z - sin t X, so that

    <Z_i Z_j> = cos t_i cos t_j <ZZ> + sin t_i sin t_j <XX> - (cos t_i sin t_j <ZX> + sin t_i cos t_j <XZ>).

In a GHZ state <ZZ> = 1 and <ZX> = <XZ> = 0. Two X flip two of the m qubits, which takes |0...0> to |1...1> only
if there are no others: <XX> = 0 for m >= 3, and 1 for m = 2. Hence

- m >= 3: all t_i = t give cos^2 t for every pair; t = arccos(sqrt(s));
- m = 2: equal angles leave the Bell state as it is, opposite ones give cos(t_1 - t_2) = cos 2t; t_1 = -t_2 =
  arccos(s)/2.

Both are exact for every s in [0, 1], and every <Z_i> is 0: each member alone is a fair coin.

**Its limits.** s is a correlation along Z, not an amount of entanglement: local rotations change no entanglement.
At s = 1 the outcomes are those of one coin that all share. At s = 0 the pairs are uncorrelated, but not the group:
for m >= 3, <Z_1 ... Z_m> = [m even] cos^m t + (-sin t)^m, whose size is 1 at s = 0. And for m >= 3 a pair without the
others is a classical mixture (Greenberger, Horne, Zeilinger, arXiv:0712.0921): it violates no Bell inequality by
itself. Negative correlations are outside the family; the mean over the pairs of m variables is never below -1/(m-1).

Qubit i is member i; outcome bit 0 is Z = +1. The GHZ state is made by a fan-out of m - 1 CX in ceil(log2 m) layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.statistics import wilson_interval, z_value
from quantum_db.circuits.template import CX, Angles, CircuitBatch, MultiplexedRY, Step, Template, content_key
from quantum_db.errors import InvalidRequest
from quantum_db.model import Interval

Pair = tuple[int, int]
Axes = Literal["computational", "state"]

CLASSICAL_BOUND: Final = 2.0
"""The largest CHSH value of any local hidden-variable model (Clauser et al., Phys. Rev. Lett. 23, 880, 1969)."""
QUANTUM_BOUND: Final = 2.0 * math.sqrt(2.0)
"""The largest CHSH value of quantum mechanics (Cirelson, Lett. Math. Phys. 4, 93, 1980)."""

_FIRST: Final = (0.0, 0.0, math.pi / 2, math.pi / 2)
_SECOND: Final = (math.pi / 4, -math.pi / 4, math.pi / 4, -math.pi / 4)
_SIGNS: Final = (1.0, 1.0, 1.0, -1.0)


@lru_cache(maxsize=64)
def correlation_template(members: int) -> Template:
    """Return the structure for ``members`` >= 2: m + 1 angles, one to start the fan-out and one for each qubit."""
    steps: list[Step] = [MultiplexedRY(0, (), 0)]
    reach = 1
    while reach < members:
        steps += [CX(source, source + reach) for source in range(min(reach, members - reach))]
        reach *= 2
    steps += [MultiplexedRY(qubit, (), 1 + qubit) for qubit in range(members)]
    return Template(content_key(members, tuple(steps)), members, tuple(steps))


def correlation_angles(members: int, strength: float) -> Angles:
    """Return the angles of ``correlation_template(members)`` in radians, (m + 1,), for <ZZ> = ``strength``.

    Raises:
        InvalidRequest: fewer than two members, or a strength outside [0, 1].
    """
    if members < 2:
        raise InvalidRequest.at("entity_ids", f"needs at least two members, not {members}")
    if not 0.0 <= strength <= 1.0:
        raise InvalidRequest.at("correlation_strength", f"must be from 0 to 1, not {strength}")
    angles = np.full(members + 1, math.pi / 2)
    if members == 2:
        angles[1:] = math.acos(strength) / 2.0, -math.acos(strength) / 2.0
    else:
        angles[1:] = math.acos(math.sqrt(strength))
    return angles


def correlation_circuit(members: int, strength: float) -> CircuitBatch:
    """Return the one circuit whose every pair of qubits has <ZZ> = ``strength``.

    Raises:
        InvalidRequest: see ``correlation_angles``.
    """
    angles = correlation_angles(members, strength)
    return CircuitBatch(correlation_template(members), angles[None, :])


@dataclass(frozen=True, slots=True)
class CorrelationEstimate:
    """An estimate of <ZZ>, in [-1, 1], from ``shots`` shots."""

    value: float
    interval: Interval
    shots: int


@dataclass(frozen=True, slots=True, eq=False)
class GroupCorrelation:
    """The estimates of a group: of each pair (i < j), and of the mean over the pairs."""

    pairs: Mapping[Pair, CorrelationEstimate]
    mean: CorrelationEstimate


def estimate_correlation(counts: Mapping[int, int], pair: Pair, confidence: float = 0.95) -> CorrelationEstimate:
    """Return <Z_i Z_j> of one pair; whether two bits agree is binomial, so the interval is Wilson's.

    Raises:
        InvalidRequest: no shots, or not two different qubits.
    """
    if pair[0] == pair[1] or min(pair) < 0:
        raise InvalidRequest.at("pair", f"must be two different members, not {pair}")
    outcomes, weights = _arrays(counts)
    product = 1 - 2 * (((outcomes >> pair[0]) ^ (outcomes >> pair[1])) & 1)
    return _sign_estimate(product, weights, confidence)


def estimate_group(counts: Mapping[int, int], members: int, confidence: float = 0.95) -> GroupCorrelation:
    """Return the estimates of all pairs of a group of ``members``, and of their mean.

    In one shot the products of different pairs depend on each other, so the mean's variance is taken between shots:
    with M the sum of a shot's signs, its mean over pairs is f = (M^2 - m)/(m (m - 1)). Two imagined shots at either end
    of the range of f keep the interval from collapsing where all shots agree; for m = 2 this is the interval of Agresti
    and Coull (Am. Stat. 52, 119, 1998).

    Raises:
        InvalidRequest: no shots, or fewer than two members.
    """
    if members < 2:
        raise InvalidRequest.at("entity_ids", f"needs at least two members, not {members}")
    outcomes, weights = _arrays(counts)
    pairs = {pair: estimate_correlation(counts, pair, confidence) for pair in combinations(range(members), 2)}
    ones = np.bitwise_count(outcomes & ((1 << members) - 1)).astype(np.float64)
    f = ((members - 2.0 * ones) ** 2 - members) / (members * (members - 1.0))
    lowest = (float(members % 2) - members) / (members * (members - 1.0))
    z = z_value(confidence)
    values = np.concatenate([f, [lowest, 1.0]])
    padded = np.concatenate([weights, [z * z / 2.0, z * z / 2.0]])
    total = float(padded.sum())
    centre = float(values @ padded) / total
    half = z * math.sqrt(float((values - centre) ** 2 @ padded) / total / total)
    interval = Interval(max(lowest, centre - half), min(1.0, centre + half), confidence)
    return GroupCorrelation(pairs, CorrelationEstimate(float(f @ weights / weights.sum()), interval, _total(weights)))


@dataclass(frozen=True, slots=True, eq=False)
class ChshTest:
    """Four circuits, the settings (a, b), (a, b'), (a', b), (a', b'), and the S that an ideal machine gives."""

    batch: CircuitBatch
    pair: Pair
    axes: Axes
    expected: float


@dataclass(frozen=True, slots=True)
class ChshEstimate:
    """S = E(a,b) + E(a,b') + E(a',b) - E(a',b') as measured.

    Attributes:
        standard_error: of S.
        violates: whether the interval lies wholly above the classical bound.
    """

    value: float
    standard_error: float
    interval: Interval
    violates: bool
    correlations: tuple[float, float, float, float]


def chsh_circuits(members: int, strength: float, pair: Pair = (0, 1), axes: Axes = "state") -> ChshTest:
    """Return the circuits of a CHSH test on a pair of a group; a diagnostic of the machine, not of the data.

    To measure cos(p) Z + sin(p) X is to turn by RY(-p) and read Z, which only changes the last angles: the circuits
    have the group's own structure. a, a' = 0, pi/2; b, b' = pi/4, -pi/4.

    - ``axes="state"``: the axes turn with the group's rotations, which undoes them; the other members are read along
      X, and the product of their signs multiplies the outcome of a'. <X ... X> = <ZZ> = 1 in a GHZ state, so S = 2
      sqrt(2) for every m and s. The others act as one party with the first of the pair and no shot is discarded, so the
      classical bound stays 2. It tells whether the machine made the state.
    - ``axes="computational"``: the axes are fixed, and the others are ignored. Two members give S = 2 sqrt(2) s, above
      2 if s > 1/sqrt(2); three and more give sqrt(2), whatever s: their pairs are classical mixtures.

    Raises:
        InvalidRequest: see ``correlation_angles``; or not two different members of the group.
    """
    angles = np.repeat(correlation_angles(members, strength)[None, :], 4, axis=0)
    if pair[0] == pair[1] or not all(0 <= qubit < members for qubit in pair):
        raise InvalidRequest.at("pair", f"must be two different members below {members}, not {pair}")
    if axes == "state":
        angles[:, 1:] = 0.0
        angles[:, [1 + qubit for qubit in range(members) if qubit not in pair]] = -math.pi / 2
    angles[:, 1 + pair[0]] -= _FIRST
    angles[:, 1 + pair[1]] -= _SECOND
    expected = QUANTUM_BOUND if axes == "state" else QUANTUM_BOUND * (strength if members == 2 else 0.5)
    return ChshTest(CircuitBatch(correlation_template(members), angles), pair, axes, expected)


def estimate_chsh(test: ChshTest, counts: tuple[Mapping[int, int], ...], confidence: float = 0.95) -> ChshEstimate:
    """Return S from the counts of the four circuits.

    The interval joins the four Wilson intervals by the squares of their half widths (MOVER: Zou and Donner, Stat. Med.
    27, 1693, 2008), and the standard error uses the variances of the Agresti-Coull centres; both stay above 0 where a
    setting's outcomes all agree.

    Raises:
        InvalidRequest: not four counts, or no shots in one.
    """
    if len(counts) != 4:
        raise InvalidRequest.at("counts", f"needs the counts of four circuits, not {len(counts)}")
    estimates = [
        _sign_estimate(*_products(test, setting, one), confidence=confidence) for setting, one in enumerate(counts)
    ]
    value = sum(sign * estimate.value for sign, estimate in zip(_SIGNS, estimates, strict=True))
    below = above = variance = 0.0
    for sign, estimate in zip(_SIGNS, estimates, strict=True):
        ends = (estimate.value - estimate.interval.low, estimate.interval.high - estimate.value)
        below += ends[sign < 0.0] ** 2
        above += ends[sign > 0.0] ** 2
        centre = estimate.value * estimate.shots / (estimate.shots + 4.0)
        variance += (1.0 - centre**2) / estimate.shots
    interval = Interval(max(-4.0, value - math.sqrt(below)), min(4.0, value + math.sqrt(above)), confidence)
    a, b, c, d = (estimate.value for estimate in estimates)
    return ChshEstimate(value, math.sqrt(variance), interval, interval.low > CLASSICAL_BOUND, (a, b, c, d))


def _products(test: ChshTest, setting: int, counts: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the product of the pair's signs in each outcome, with the others' signs where they count."""
    outcomes, weights = _arrays(counts)
    mask = (1 << test.pair[0]) | (1 << test.pair[1])
    if test.axes == "state" and _FIRST[setting] != 0.0:
        mask = (1 << test.batch.template.num_qubits) - 1
    return 1 - 2 * (np.bitwise_count(outcomes & mask).astype(np.int64) & 1), weights


def _sign_estimate(signs: NDArray[np.int64], weights: NDArray[np.int64], confidence: float) -> CorrelationEstimate:
    """Return the mean of signs, each seen ``weights`` times, with Wilson's interval of the share of +1."""
    shots, agreed = _total(weights), int(weights[signs > 0].sum())
    low, high = wilson_interval(np.array([agreed]), shots, confidence)
    interval = Interval(2.0 * float(low[0]) - 1.0, 2.0 * float(high[0]) - 1.0, confidence)
    return CorrelationEstimate(2.0 * agreed / shots - 1.0, interval, shots)


def _arrays(counts: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return outcomes and their numbers of shots."""
    weights = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
    if _total(weights) < 1:
        raise InvalidRequest.at("counts", "hold no shots")
    return np.fromiter(counts, dtype=np.int64, count=len(counts)), weights


def _total(weights: NDArray[np.int64]) -> int:
    return int(weights.sum())
