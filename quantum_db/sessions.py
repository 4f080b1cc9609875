"""Sessions: what somebody has measured moves the weights that the same session sees later, and nobody else's.

Measuring a member of a group in context c moves its partners' weights to (1 - s) w + s delta_c
(``entanglement_rules.weights_after_reading``). Any number of such moves is one affine map of the stored weights,

    w_c  ->  kept * w_c + added_c,    kept + sum_c added_c = 1,

so a session keeps ``kept`` and ``added`` of each moved entity, not its weights: an entity's rows are adjusted without
asking the store for its other contexts. An entity that lost one of the contexts since has weights of a smaller sum.

Sessions are kept by tenant and id, for as long as they are used. They live at ``shard_of(key.shard_key)``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.entanglement_rules import partners
from quantum_db.errors import CorruptData
from quantum_db.model import Candidates, EntanglementGroup

KEPT_MEASUREMENTS: Final = 256
"""How many measurement ids a session remembers. One that comes again after as many others is taken for new."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Whose session it is. The same ``session_id`` of two tenants is two sessions."""

    tenant: str
    session_id: str

    @property
    def shard_key(self) -> str:
        """The text that decides the session's shard."""
        return f"{self.tenant}\0{self.session_id}"


@dataclass(frozen=True, slots=True)
class Observation:
    """A measurement as a session takes note of it: an entity was found in a context."""

    measurement_id: str
    entity_id: str
    context: str


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What is kept; beyond any of the bounds the least recently used goes first.

    Attributes:
        sessions: of all tenants.
        moves: moved entities of all sessions, about 0.5 kB each.
        moves_per_session: moved entities of one session.
        idle_s: a session that was not used for so long is over.
    """

    sessions: int = 10_000
    moves: int = 250_000
    moves_per_session: int = 5_000
    idle_s: float = 1_800.0


@dataclass(frozen=True, slots=True)
class _Move:
    kept: float = 1.0
    added: dict[str, float] = field(default_factory=dict)

    def towards(self, context: str, strength: float) -> _Move:
        added = {name: (1.0 - strength) * weight for name, weight in self.added.items()}
        added[context] = added.get(context, 0.0) + strength
        return _Move((1.0 - strength) * self.kept, added)


@dataclass(slots=True)
class _Session:
    used_s: float
    moves: dict[str, _Move] = field(default_factory=dict)
    measured: dict[str, None] = field(default_factory=dict)


class SessionTable:
    """All sessions of a shard, least recently used first."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        """Start empty."""
        self._limits = limits or SessionLimits()
        self._sessions: OrderedDict[SessionKey, _Session] = OrderedDict()
        self._moves = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def observe(
        self,
        key: SessionKey,
        seen: Observation,
        groups: Iterable[EntanglementGroup],
        contexts: Mapping[str, Collection[str]],
        now_s: float,
    ) -> None:
        """Let a session, which begins with this if need be, take note of a measurement. Idempotent by its id.

        Args:
            groups: those of the measured entity.
            contexts: the names of the contexts of its partners. A partner that is not there, or lacks the measured
                context, cannot have that outcome and stays as it is.
        """
        session = self._used(key, now_s)
        if session is None:
            session = self._sessions[key] = _Session(now_s)
        if seen.measurement_id not in session.measured:
            session.measured[seen.measurement_id] = None
            _trim(session.measured, KEPT_MEASUREMENTS)
            before = len(session.moves)
            for partner, strength in partners(seen.entity_id, groups).items():
                if seen.context in contexts.get(partner, ()):
                    move = session.moves.pop(partner, _Move())
                    session.moves[partner] = move.towards(seen.context, strength)
            _trim(session.moves, self._limits.moves_per_session)
            self._moves += len(session.moves) - before
        self._shrink()

    def adjusted_weights(self, key: SessionKey, candidates: Candidates, now_s: float) -> NDArray[np.float64]:
        """Return the weights of the candidates' rows, (N,), as a session sees them; the stored ones without a session.

        The rows of an entity need not be all of its contexts.
        """
        session = self._used(key, now_s)
        moves = session.moves if session is not None else {}
        moved = [(place, moves[one]) for place, one in enumerate(candidates.entity_ids) if one in moves]
        if not moved:
            return candidates.weights
        kept = np.ones(len(candidates.entity_ids))
        added = np.zeros(len(candidates.weights))
        places = [place for place, _ in moved]
        first = np.searchsorted(candidates.owner, places)
        last = np.searchsorted(candidates.owner, places, side="right")
        for (place, move), start, end in zip(moved, first.tolist(), last.tolist(), strict=True):
            kept[place] = move.kept
            added[start:end] = [move.added.get(name or "", 0.0) for name in candidates.contexts[start:end]]
        return np.asarray(candidates.weights * kept[candidates.owner] + added)

    def get(self, key: SessionKey, now_s: float) -> dict[str, Any] | None:
        """Return the record of a session, which is not used by that; None if there is none."""
        session = self._sessions.get(key)
        return None if session is None or self._is_over(session, now_s) else _record_of(key, session)

    def end(self, key: SessionKey) -> None:
        """Forget a session. Idempotent."""
        session = self._sessions.pop(key, None)
        self._moves -= len(session.moves) if session else 0

    def advance(self, now_s: float, limit: int) -> int:
        """End sessions that have been idle for too long, ``limit`` at most; return how many."""
        for number in range(limit):
            key = next(iter(self._sessions), None)
            if key is None or not self._is_over(self._sessions[key], now_s):
                return number
            self.end(key)
        return limit

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Return the records from which ``restore`` makes the same table, as it is when this is called."""
        copies = [
            (key, _Session(one.used_s, one.moves.copy(), one.measured.copy())) for key, one in self._sessions.items()
        ]
        return (_record_of(key, session) for key, session in copies)

    def restore(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take in the records of snapshots; a later one of a session replaces. Raises CorruptData."""
        for record in records:
            key, session = _session_of(record)
            self.end(key)
            _trim(session.moves, self._limits.moves_per_session)
            self._sessions[key] = session
            self._moves += len(session.moves)
            self._shrink()

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        limits = self._limits
        assert len(self._sessions) <= limits.sessions
        assert self._moves == sum(len(session.moves) for session in self._sessions.values()) <= limits.moves
        for session in self._sessions.values():
            assert len(session.moves) <= limits.moves_per_session
            assert len(session.measured) <= KEPT_MEASUREMENTS
            for move in session.moves.values():
                assert min(move.kept, *move.added.values()) >= 0.0
                assert abs(move.kept + sum(move.added.values()) - 1.0) < 1e-9

    def _used(self, key: SessionKey, now_s: float) -> _Session | None:
        session = self._sessions.get(key)
        if session is None:
            return None
        if self._is_over(session, now_s):
            self.end(key)
            return None
        session.used_s = max(session.used_s, now_s)
        self._sessions.move_to_end(key)
        return session

    def _is_over(self, session: _Session, now_s: float) -> bool:
        return now_s - session.used_s > self._limits.idle_s

    def _shrink(self) -> None:
        while len(self._sessions) > self._limits.sessions or self._moves > self._limits.moves:
            self.end(next(iter(self._sessions)))


def _trim(kept: dict[str, Any], bound: int) -> None:
    while len(kept) > bound:
        del kept[next(iter(kept))]


def _record_of(key: SessionKey, session: _Session) -> dict[str, Any]:
    return {
        "tenant": key.tenant,
        "session_id": key.session_id,
        "used_s": session.used_s,
        "moves": {one: [move.kept, move.added] for one, move in session.moves.items()},
        "measured": list(session.measured),
    }


def _session_of(record: Mapping[str, Any]) -> tuple[SessionKey, _Session]:
    try:
        moves = {
            str(one): _Move(float(kept), {str(name): float(weight) for name, weight in added.items()})
            for one, (kept, added) in record["moves"].items()
        }
        key = SessionKey(str(record["tenant"]), str(record["session_id"]))
        return key, _Session(float(record["used_s"]), moves, dict.fromkeys(record["measured"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"a session record cannot be read: {error!r}") from error
