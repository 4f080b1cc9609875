"""How long and how hot plans are annealed, by mode."""

from __future__ import annotations

import math
from typing import Final, Literal

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest

Mode = Literal["conservative", "balanced", "aggressive", "adaptive"]
Step = Literal["conservative", "balanced", "aggressive"]

STEPS: Final[tuple[Step, ...]] = ("conservative", "balanced", "aggressive")
CHAINS: Final[dict[Step, int]] = {"conservative": 4, "balanced": 16, "aggressive": 64}
"""Chains of thermal annealing; of rings of eight slices a quarter as many."""
MAX_SWEEPS: Final = 5_000
FIELD_OF: Final = 2.5
"""The field where a ring begins, in units of its temperature: the same for all temperatures, so that it cools by it."""


def annealing_schedule(
    temperature: float, cooling_rate: float, min_temperature: float, mode: Mode, *, quantum: bool = False
) -> ThermalSchedule | QuantumSchedule:
    """Return a schedule of as many sweeps as it takes to cool from one temperature to the other.

    Args:
        temperature, min_temperature: in units of the landscape's spread. In a transverse field the temperature stays at
            the lower one, and the field falls in the same ratio and as many sweeps.
        cooling_rate: the ratio of two temperatures in a row.
        mode: says how many chains; ``adaptive`` begins balanced.

    Raises:
        InvalidRequest: the temperatures do not fall, or it takes more than ``MAX_SWEEPS`` sweeps.
    """
    if not (0.0 < min_temperature <= temperature < math.inf and 0.0 < cooling_rate < 1.0):
        raise InvalidRequest.at("temperature", "needs 0 < min_temperature <= temperature, and 0 < cooling_rate < 1")
    sweeps = 1 + math.ceil(math.log(min_temperature / temperature) / math.log(cooling_rate))
    if sweeps > MAX_SWEEPS:
        raise InvalidRequest.at("cooling_rate", f"takes {sweeps} sweeps to cool, and at most {MAX_SWEEPS} are made")
    chains = CHAINS["balanced" if mode == "adaptive" else mode]
    if not quantum:
        return ThermalSchedule(chains=chains, sweeps=sweeps, start=temperature, end=min_temperature)
    field_end = FIELD_OF * min_temperature / temperature
    return QuantumSchedule(
        restarts=max(1, chains // 4),
        slices=8,
        sweeps=sweeps,
        temperature=min_temperature,
        field_start=FIELD_OF,
        field_end=max(1e-6, field_end),
    )
