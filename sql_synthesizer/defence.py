"""Who is let in where the synthesizer runs by itself, by the same parts as the vector side: limits, blocks, audit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from quantum_db.access.audit import AuditEvent, AuditLog
from quantum_db.access.blocking import BlockPolicy, Blocks
from quantum_db.access.limits import CallLimits, Limiter, LimitTable
from quantum_db.access.principal import Principal, Role
from quantum_db.errors import BodyTooLarge, QuantumDBError, SqlRefused, TooManyRequests
from quantum_db.ports import Clock
from sql_synthesizer.guard.detectors import Threat, detect

ACTION: Final = "sql.query"
LEVELS: Final = (Threat.LOW, Threat.MEDIUM, Threat.HIGH)
NO_THREAT: Final = "none"


def threat_of(text: str, dialect: str) -> tuple[str, tuple[str, ...]]:
    """Return the highest threat level of a text, ``none`` without a finding, and the names of its findings."""
    findings = detect(text, dialect)
    highest = max((LEVELS.index(finding.threat) for finding in findings), default=-1)
    level = NO_THREAT if highest < 0 else LEVELS[highest].value
    return level, tuple(sorted({finding.name for finding in findings}))


class Defence:
    """Counts callers, blocks those whose statements keep being refused, and writes down. For one event loop."""

    def __init__(
        self, limits: CallLimits, blocks: BlockPolicy, max_bytes: int, audit: Path | None, dialect: str, clock: Clock
    ) -> None:
        """Begin with nobody counted. ``audit`` is the log's file; without one nothing is written."""
        self._limiter = Limiter(LimitTable(per_key=limits), clock)
        self._blocks = Blocks(blocks)
        self._max_bytes = max_bytes
        self._log = None if audit is None else AuditLog(audit)
        self._alone = asyncio.Lock()
        self._dialect = dialect
        self._clock = clock

    async def admit(self, caller: str, text: str) -> None:
        """Let a request in.

        Raises:
            BodyTooLarge: the text is too long.
            TooManyRequests: the caller is blocked, or above the limit.
        """
        size = len(text.encode())
        if size > self._max_bytes:
            raise BodyTooLarge(f"the text has {size} bytes, and at most {self._max_bytes} are read")
        until_s = self._blocks.active(self._clock.now_s()).get(caller)
        if until_s is not None:
            left_s = max(1.0, until_s - self._clock.now_s())
            raise TooManyRequests("too many statements were refused; try again later", retry_after_s=left_s)
        async with self._limiter.admitted(Principal(caller, caller, Role.READER), 1):
            pass

    async def ended(self, caller: str, text: str, error: QuantumDBError | None) -> None:
        """Note how a request ended; a refused statement counts towards a block."""
        now_s = self._clock.now_s()
        refused = isinstance(error, SqlRefused)
        blocked = refused and self._blocks.failed(caller, 1, now_s)
        if self._log is None:
            return
        level, names = threat_of(text, self._dialect)
        about = " ".join([f"threat={level}", *names])
        outcome = "ok" if error is None else "denied" if refused or isinstance(error, TooManyRequests) else "failed"
        status = 200 if error is None else error.status
        events = [AuditEvent(now_s, caller, "", ACTION, about, outcome, status, "", "")]
        if blocked:
            events.append(AuditEvent(now_s, caller, "", "blocks.begin", caller, "ok", 0, "", ""))
        async with self._alone:
            await asyncio.to_thread(self._log.append, events)

    def blocked(self) -> dict[str, float]:
        """Return the blocked callers, and until when each is (seconds since the epoch)."""
        return dict(self._blocks.active(self._clock.now_s()))

    def lift(self, caller: str) -> bool:
        """Forget a caller's block; return whether there was one."""
        return self._blocks.lift(caller, self._clock.now_s())

    def close(self) -> None:
        """Close the log. Idempotent."""
        if self._log is not None:
            self._log.close()
