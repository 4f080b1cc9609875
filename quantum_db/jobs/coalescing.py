"""Circuits of several callers as one job: equal ones once, and each result back to whom it belongs.

Circuits are equal if they have one digest: the same structure and angles, for the same tenant, backend, shots and
draw. Two draws of one circuit are different work: they are asked for because their shots are independent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from quantum_db.circuits.template import CircuitBatch, Template
from quantum_db.jobs.parts import circuit_digests

_SCOPE_BYTES: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """Circuits that somebody wants run: parts of one structure each, and the digest of each circuit, in order."""

    parts: tuple[CircuitBatch, ...]
    digests: tuple[str, ...]

    @property
    def gates(self) -> int:
        """Gates of all circuits."""
        return sum(len(part) * len(part.template.structure) for part in self.parts)

    @property
    def qubits(self) -> tuple[int, ...]:
        """The qubits of each circuit."""
        return tuple(part.template.num_qubits for part in self.parts for _ in range(len(part)))


def wish_of(parts: Sequence[CircuitBatch], *, tenant: str, identity: str, shots: int, draw: Hashable) -> Wish:
    """Return the parts with their digests.

    Args:
        identity: of the backend: what runs there, not what it is called.
        draw: which of several independent runs of the same circuits this is; told apart by its repr.
    """
    scope = hashlib.blake2b(repr((tenant, identity, shots, draw)).encode(), digest_size=_SCOPE_BYTES).hexdigest()
    return Wish(tuple(parts), tuple(f"{scope}{digest}" for part in parts for digest in circuit_digests(part)))


def without(wish: Wish, known: Mapping[str, Any]) -> Wish:
    """Return the circuits whose digest is not among the known ones, each digest once."""
    seen = set(known)
    parts: list[CircuitBatch] = []
    digests: list[str] = []
    start = 0
    for part in wish.parts:
        own = wish.digests[start : start + len(part)]
        start += len(part)
        kept = []
        for row, digest in enumerate(own):
            if digest not in seen:
                seen.add(digest)
                kept.append(row)
                digests.append(digest)
        if kept:
            parts.append(part if len(kept) == len(part) else CircuitBatch(part.template, part.angles[kept]))
    return Wish(tuple(parts), tuple(digests))


def merged(wishes: Sequence[Wish]) -> Wish:
    """Return all wishes as one, whose circuits of one structure stand together, each digest once."""
    rows: dict[str, tuple[Template, list[Any], list[str]]] = {}
    seen: set[str] = set()
    for wish in wishes:
        start = 0
        for part in wish.parts:
            own = wish.digests[start : start + len(part)]
            start += len(part)
            new = [row for row, digest in enumerate(own) if digest not in seen]
            if not new:
                continue
            _, angles, digests = rows.setdefault(part.template.key, (part.template, [], []))
            angles.append(part.angles[new])
            digests += [own[row] for row in new]
            seen.update(own)
    parts = tuple(CircuitBatch(template, np.concatenate(angles)) for template, angles, _ in rows.values())
    return Wish(parts, tuple(digest for _, _, digests in rows.values() for digest in digests))


def chunks(wish: Wish, max_circuits: int, max_gates: int) -> list[Wish]:
    """Return the wish as several, none with more circuits or gates than a job may hold.

    A single circuit above ``max_gates`` stays whole: the backend says what is wrong with it.
    """
    found: list[Wish] = []
    parts: list[CircuitBatch] = []
    digests: list[str] = []
    circuits = gates = start = 0
    for part in wish.parts:
        of_one = len(part.template.structure)
        row = 0
        while row < len(part):
            room = min(max_circuits - circuits, (max_gates - gates) // max(1, of_one))
            if room <= 0 and digests:
                found.append(Wish(tuple(parts), tuple(digests)))
                parts, digests, circuits, gates = [], [], 0, 0
                continue
            take = max(1, min(room, len(part) - row))
            parts.append(CircuitBatch(part.template, part.angles[row : row + take]))
            digests += wish.digests[start + row : start + row + take]
            circuits, gates, row = circuits + take, gates + take * of_one, row + take
        start += len(part)
    if digests:
        found.append(Wish(tuple(parts), tuple(digests)))
    return found
