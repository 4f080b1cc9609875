"""What a job costs by the providers' published price models.

IonQ's own prices are set by contract, so a model is chosen by name in the configuration. Each one carries the page it
was read from and when.

**What counts as a task.** A multi-circuit job is one HTTP request and one queue entry, but not one bill. Amazon defines
a task as repeated shots of the same circuit, Azure sets its minimum per program execution, and neither publishes a
discount for circuits that travel together. Here each *circuit* of a job is therefore one task (Braket) and one program
execution with a minimum of its own (Azure). If a contract bills the job as one, the true cost is lower: a budget kept
by these figures is not overshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from quantum_db.errors import InvalidSettings


class PriceModel(Protocol):
    """Something that prices a job before it is submitted."""

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def source(self) -> str:
        """The published page that the figures come from, with its date."""

    def cost_usd(self, circuits: int, shots: int, one_qubit_gates: float, two_qubit_gates: float) -> float:
        """Return the price of one job in USD.

        Args:
            circuits: number of circuits in the job.
            shots: shots of each circuit.
            one_qubit_gates: one-qubit gates of each circuit; the mean if they differ.
            two_qubit_gates: two-qubit gates of each circuit; the mean if they differ.
        """


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing is billed: IonQ's simulator, and emulators."""

    name: str = "free"
    source: str = "IonQ's simulator is free of charge"

    def cost_usd(self, circuits: int, shots: int, one_qubit_gates: float, two_qubit_gates: float) -> float:
        """Return 0; see ``PriceModel.cost_usd``."""
        _check(circuits, shots, one_qubit_gates, two_qubit_gates)
        return 0.0


@dataclass(frozen=True, slots=True)
class PerTaskAndShot:
    """A fee for each task and each shot, whatever the gates."""

    name: str
    source: str
    task_usd: float
    shot_usd: float

    def cost_usd(self, circuits: int, shots: int, one_qubit_gates: float, two_qubit_gates: float) -> float:
        """Return circuits * (task + shots * shot); see ``PriceModel.cost_usd``."""
        _check(circuits, shots, one_qubit_gates, two_qubit_gates)
        return circuits * (self.task_usd + shots * self.shot_usd)


@dataclass(frozen=True, slots=True)
class PerGateShot:
    """A fee for each gate in each shot, and a minimum for each circuit.

    ``minimum_usd`` is read as a floor. Azure's page prints its token formula with the minimum as a summand; taken
    literally that adds at most ``minimum_usd`` for each circuit to the figure here.
    """

    name: str
    source: str
    one_qubit_gate_shot_usd: float
    two_qubit_gate_shot_usd: float
    minimum_usd: float

    def cost_usd(self, circuits: int, shots: int, one_qubit_gates: float, two_qubit_gates: float) -> float:
        """Return circuits * max(minimum, gate-shots); see ``PriceModel.cost_usd``."""
        _check(circuits, shots, one_qubit_gates, two_qubit_gates)
        a_shot = one_qubit_gates * self.one_qubit_gate_shot_usd + two_qubit_gates * self.two_qubit_gate_shot_usd
        return circuits * max(self.minimum_usd, shots * a_shot)


def _check(circuits: int, shots: int, one_qubit_gates: float, two_qubit_gates: float) -> None:
    if min(circuits, shots, one_qubit_gates, two_qubit_gates) < 0:
        raise ValueError("a price needs counts that are not negative")


_BRAKET: Final = "https://aws.amazon.com/braket/pricing/"
_AZURE: Final = "https://learn.microsoft.com/azure/quantum/pricing, page of 2025-02"

FREE: Final = Free()
BRAKET_FORTE: Final = PerTaskAndShot(
    "braket-forte", f"{_BRAKET}, IonQ Forte, read 2026-11", task_usd=0.30, shot_usd=0.08
)
BRAKET_ARIA: Final = PerTaskAndShot(
    "braket-aria", f"{_BRAKET}, IonQ Aria, read 2026-11; no longer listed everywhere", task_usd=0.30, shot_usd=0.03
)
AZURE: Final = PerGateShot(
    "azure",
    f"{_AZURE}, error mitigation off",
    one_qubit_gate_shot_usd=0.000220,
    two_qubit_gate_shot_usd=0.000975,
    minimum_usd=12.4166,
)
AZURE_MITIGATED: Final = PerGateShot(
    "azure-mitigated",
    f"{_AZURE}, error mitigation on",
    one_qubit_gate_shot_usd=0.000220,
    two_qubit_gate_shot_usd=0.000975,
    minimum_usd=97.50,
)

PRICE_MODELS: Final[Mapping[str, PriceModel]] = MappingProxyType(
    {model.name: model for model in (FREE, BRAKET_FORTE, BRAKET_ARIA, AZURE, AZURE_MITIGATED)}
)


def price_model(name: str) -> PriceModel:
    """Return the price model of this name. Raises InvalidSettings for an unknown one."""
    try:
        return PRICE_MODELS[name]
    except KeyError:
        raise InvalidSettings(f"there is no price model {name!r}; known are {', '.join(PRICE_MODELS)}") from None
