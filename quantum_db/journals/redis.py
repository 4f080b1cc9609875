"""A journal in Redis or a Redis cluster, for owners that may move between machines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from quantum_db.errors import CorruptData, InvalidSettings, QuantumDBError, Unavailable
from quantum_db.journals.records import (
    BATCH,
    Head,
    Row,
    Seen,
    check_epoch,
    check_through,
    checksum,
    damaged,
    encode,
    fenced,
    lost,
    out_of_range,
    read,
    unnumbered_checksum,
)
from quantum_db.journals.redis_client import Argument, Durability, RedisClient
from quantum_db.journals.redis_scripts import APPEND, BEGIN_EPOCH, COMPACT, READ, STAGE

FORMAT_VERSION: Final = 1
TIMEOUT_S: Final = 5.0
"""How long one answer may take; a lost one is asked for once more."""

MAX_APPEND: Final = 100_000
"""Records of one append: Redis does nothing else while it takes them."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_CHECKSUM_DIGITS: Final = 8


class RedisJournal:
    """Implements ``Journal``, and ``Source`` for its reading.

    An append carries an operation id, which Redis remembers: repeating it when its answer was lost returns the first
    answer and writes nothing. The journal repeats it once; a caller who then gets Unavailable may append the same
    records as his next step on the stream, which goes on with the same operation.
    """

    def __init__(
        self, url: str, *, name: str = "qqc", durability: Durability = "checked", timeout_s: float = TIMEOUT_S
    ) -> None:
        """Connect, check that acknowledged writes are on disk, and make the journal if there is none.

        Args:
            url: like ``rediss://user:password@host:6379/0``, with redis-py's options; of a cluster any node.
            name: of the journal; all its keys begin with ``{name}`` and are on one node of a cluster.
            durability: "trusted" leaves out the check of the server's settings (``appendonly yes``, ``appendfsync
                always``, no skipped fsyncs, no eviction), for managed services that forbid CONFIG and are known to be
                so durable.
            timeout_s: bounds connecting and each answer.

        Raises:
            InvalidSettings: URL, name, user or password cannot be used, or the server is not durable.
            CorruptData: there is a journal of a format that this version does not know.
            Unavailable: the server does not answer.
        """
        if not _NAME.fullmatch(name):
            raise InvalidSettings(f"the name of a journal has letters, digits and _ . - only, not {name!r}")
        if durability not in ("checked", "trusted"):
            raise InvalidSettings(f'durability is "checked" or "trusted", not {durability!r}')
        self._prefix = f"{{{name}}}"
        self._seen = Seen()
        self._unclear: dict[str, tuple[list[str], str]] = {}
        self._closed = False
        self._client = RedisClient(url, self._prefix, timeout_s=timeout_s, durability=durability)
        self.place = f"{self._client.place} {name}"
        # With an id of its own: a journal that was lost and made anew is another one.
        self._format = self._client.get_or_set(f"{self._prefix}:format", f"{FORMAT_VERSION}:{uuid4().hex}")
        if not self._format.startswith(f"{FORMAT_VERSION}:".encode()):
            known = f"this version reads {FORMAT_VERSION}"
            held = self._format.partition(b":")[0].decode(errors="replace")
            raise CorruptData(f"{self.place} is not a journal or one of another version: it has format {held}; {known}")

    def __repr__(self) -> str:
        return f"RedisJournal({self.place})"

    def begin_epoch(self, stream: str) -> int:
        """See ``Journal.begin_epoch``."""
        head, _ = self._run(BEGIN_EPOCH, stream, uuid4().hex)
        return head.epoch

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        """See ``Journal.append``, and the class for what to do when it raises Unavailable.

        Raises ValueError also for more than ``MAX_APPEND`` records.
        """
        if len(records) > MAX_APPEND:
            raise ValueError(f"one append has at most {MAX_APPEND:,} records, not {len(records):,}")
        bodies = [encode(record) for record in records]
        arguments: list[Argument] = []
        for body in bodies:
            arguments += (unnumbered_checksum(stream, body.encode()), body)
        same, operation = self._unclear.pop(stream, ([], ""))
        if same != bodies or not bodies:
            operation = uuid4().hex
        try:
            head, _ = self._run(APPEND, stream, _or_nothing(epoch), operation, *arguments)
        except Unavailable:
            self._unclear[stream] = (bodies, operation)
            raise
        return head.last

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Journal.read``."""
        return read(self, stream, after)

    def last(self, stream: str) -> int:
        """See ``Journal.last``."""
        return self.head(stream).last

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        """See ``Journal.compact``. The snapshot is sent in parts and put in place when it is whole."""
        bodies = [encode(record) for record in records]
        head = self.head(stream)
        check_epoch(stream, head, epoch)
        check_through(stream, head, through, len(bodies))
        operation = uuid4().hex
        for start in range(0, len(bodies), BATCH):
            part = [
                f"{checksum(stream, f'{through}.{position}', body.encode()):08x}{body}"
                for position, body in enumerate(bodies[start : start + BATCH], start + 1)
            ]
            self._run(STAGE, stream, start, *part, staging=operation)
        self._run(COMPACT, stream, _or_nothing(epoch), operation, through, len(bodies), staging=operation)

    def close(self) -> None:
        """See ``Journal.close``."""
        self._closed = True
        self._client.close()

    def head(self, stream: str) -> Head:
        """See ``Source.head``."""
        head, _ = self._run(READ, stream, "head")
        return head

    def records(self, stream: str, after: int, through: int) -> tuple[Head, Sequence[Row]]:
        """See ``Source.records``."""
        head, [entries] = self._run(READ, stream, "records", after + 1, through, BATCH)
        return head, [_row(int(entry_id.partition(b"-")[0]), fields[-1]) for entry_id, fields in entries]

    def snapshot(self, stream: str, after: int) -> tuple[Head, Sequence[Row]]:
        """See ``Source.snapshot``."""
        head, [stored] = self._run(READ, stream, "snapshot", after, after + BATCH - 1)
        return head, [_row(position, value) for position, value in enumerate(stored, after + 1)]

    def _run(
        self, script: str, stream: str, *arguments: Argument, staging: str | None = None
    ) -> tuple[Head, Sequence[Any]]:
        """Run a script; return the stream's head and what else it answers. Raises what its refusals mean."""
        if self._closed:
            raise Unavailable(f"the journal {self.place} is closed")
        own = f"{self._prefix}:stream:{stream}"
        keys = [f"{self._prefix}:format", *(f"{own}:{part}" for part in ("head", "records", "snapshot", "operations"))]
        if staging is not None:
            keys.append(f"{own}:staging-{staging}")
        word, *values = self._client.run(script, keys, (self._format, *self._seen.bound(stream), *arguments))
        if word != b"ok":
            raise self._refusal(word.decode(), stream, values, arguments)
        epoch, last, through, snapshot_records, snapshot_id, *rest = values
        head = Head(epoch, last, through, snapshot_records, snapshot_id.decode())
        self._seen.note(stream, head)
        return head, rest

    def _refusal(
        self, word: str, stream: str, values: Sequence[Any], arguments: Sequence[Argument]
    ) -> QuantumDBError | ValueError:
        match word:
            case "fenced":
                return fenced(stream, values[0], arguments[0])
            case "range":
                return out_of_range(stream, values[0], values[1], arguments[2])
            case "unstaged":
                return Unavailable(f"a part of the snapshot of stream {stream!r} was lost on its way; compact it again")
            case "lost":
                return lost(self.place)
            case _:
                return damaged(self.place, f"stream {stream!r} {values[0].decode()}")


def _or_nothing(epoch: int | None) -> Argument:
    return "" if epoch is None else epoch


def _row(number: int, stored: bytes) -> Row:
    try:
        return number, int(stored[:_CHECKSUM_DIGITS], 16), stored[_CHECKSUM_DIGITS:]
    except ValueError:
        return number, -1, stored  # no checksum at all, and none that is right
