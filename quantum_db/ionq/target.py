"""The machine behind a URL: how it is called, what it takes, and where its results come from.

``IonQProvider`` is not used: it asks IonQ's public host for qubit counts, whatever URL it was given, and falls back to
4 qubits. Its backend class is built here from what the configured URL tells, so neither ``IONQ_API_URL`` nor
``QISKIT_IONQ_API_URL`` matters, and nothing in the environment is read or changed.
"""

from __future__ import annotations

import re
import threading
import warnings
from pathlib import Path
from typing import Final, cast

import qiskit_ionq
from dotenv import dotenv_values
from qiskit_ionq import IonQProvider, ionq_backend
from qiskit_ionq.exceptions import IonQTranspileLevelWarning

from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits.noise import ARIA_1, FORTE_1, IDEAL, NoiseModel
from quantum_db.errors import InvalidSettings
from quantum_db.ionq.pricing import PriceModel

MAX_CIRCUITS: Final = 5_000
MAX_GATES: Final = 150_000
MAX_QPU_SHOTS: Final = 10_000
MAX_SIMULATOR_SHOTS: Final = 1_000_000

_DOTENV_KEYS: Final = frozenset(
    {"QISKIT_IONQ_API_URL", "IONQ_API_URL", "QISKIT_IONQ_API_TOKEN", "IONQ_API_TOKEN", "IONQ_API_KEY"}
)

_making = threading.Lock()
"""qiskit-ionq writes into a library of the whole process whenever it makes a backend, and two at a time fail."""


class Target(ionq_backend.IonQBackend):
    """What qiskit-ionq's conversion wants to know of a backend. Threads may make several at a time."""

    def __init__(self, target: str, num_qubits: int) -> None:
        with _making, warnings.catch_warnings():
            warnings.simplefilter("ignore", IonQTranspileLevelWarning)  # nothing is transpiled here
            super().__init__(
                provider=cast(IonQProvider, None),  # it is only asked for a client, and jobs are given one
                name=f"ionq_{target}",
                description=f"IonQ {target}",
                gateset="qis",
                num_qubits=num_qubits,
                simulator=target == "simulator",
            )


def check_settings(url: str, token: str, target: str) -> None:
    """Raise InvalidSettings if URL, key or target cannot be used, or a ``.env`` file would override them."""
    if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?/v\d+\.\d+/?", url):
        raise InvalidSettings(f"the IonQ URL must end with the API's version, like /v0.4; it is {url!r}")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InvalidSettings("the IonQ API key is empty or has characters that cannot be in a header")
    if not re.fullmatch(r"simulator|qpu\.[a-z0-9.-]+", target):
        raise InvalidSettings(f"the IonQ target must be simulator or like qpu.forte-1; it is {target!r}")
    refuse_dotenv(Path(qiskit_ionq.__file__))


def limits_of(target: str, qubits: int, price_model: PriceModel) -> BackendLimits:
    """Return what one job on the target may hold: IonQ's published limits, and the qubits that the provider tells."""
    noise = _published_noise(target)
    return BackendLimits(
        qubits,
        MAX_CIRCUITS,
        MAX_GATES,
        MAX_SIMULATOR_SHOTS if target == "simulator" else MAX_QPU_SHOTS,
        price_model=price_model.name,
        one_qubit_fidelity=noise.one_qubit_fidelity,
        two_qubit_fidelity=noise.two_qubit_fidelity,
    )


def refuse_dotenv(start: Path) -> None:
    """Refuse a ``.env`` file that qiskit-ionq would find from its own folder upward and prefer to the configuration.

    This backend does not read it. But any other use of qiskit-ionq in the process would silently go to another place
    with another key, so it is better to know.

    Raises:
        InvalidSettings: such a file sets the URL or the key; the message names the keys.
    """
    for folder in start.resolve().parents:
        path = folder / ".env"
        if path.is_file():
            found = sorted(_DOTENV_KEYS & dotenv_values(path, interpolate=False).keys())
            if found:
                raise InvalidSettings(
                    f"{path} sets {', '.join(found)}, which qiskit-ionq prefers to other settings; remove them there"
                )
            return  # qiskit-ionq looks no further either


def _published_noise(target: str) -> NoiseModel:
    """Return the published model of the machine that IonQ calls ``target``; ideal for the simulator."""
    if target.startswith("qpu.aria"):
        return ARIA_1
    return FORTE_1 if target.startswith("qpu.forte") else IDEAL
