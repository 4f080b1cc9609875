"""Where results come from, by the URL of the API. Apart from ``target``, because this needs no qiskit."""

from __future__ import annotations

from urllib.parse import urlsplit

from quantum_db.model import Provenance


def provenance_of(url: str, target: str) -> Provenance:
    """Return where the results of a target come from: what is not at IonQ is an emulator."""
    host = urlsplit(url).hostname or ""
    if not host.endswith((".ionq.co", ".ionq.com")):
        return "emulator"
    return "simulated shots" if target == "simulator" else "hardware"
