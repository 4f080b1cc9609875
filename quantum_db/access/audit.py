"""The audit log: who did what, in a file to which lines are only ever added, each bound to all before it by a hash.

A line is a JSON object. ``hash`` is the SHA-256 of the other fields, and one of these, ``prev``, is the hash of the
line before. So a line that is changed, deleted, added or moved anywhere but at the end breaks the chain. The end is
held by the head, the number and hash of the last line, which is kept in a file beside the log and may be kept
elsewhere: what is cut off from before a head that somebody remembers is found. Whoever can write both files can make
the whole log anew; only a head that is kept where he cannot write shows that.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from quantum_db.errors import CorruptData, InvalidRequest, Unavailable

logger = logging.getLogger(__name__)

AUDIT_FILE: Final = "audit.jsonl"
NO_HASH: Final = "0" * 64
HEAD_SUFFIX: Final = ".head"
MAX_TEXT: Final = 256
_MAX_LINE_BYTES: Final = 16_384

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What somebody did, or was not let do. Never secrets, vectors or contents.

    Attributes:
        at_s: seconds since the epoch, when it ended.
        who: the subject of the principal, or "" where it is not known.
        about: which entity, job or key.
        outcome: ``ok``, ``denied``, or ``failed`` for what was let in and did not succeed.
    """

    at_s: float
    who: str
    tenant: str
    action: str
    about: str
    outcome: str
    status: int
    request_id: str
    peer: str


@dataclass(frozen=True, slots=True)
class Head:
    """How many lines a log has, and the hash of the last one."""

    count: int = 0
    hash: str = NO_HASH

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def parsed(cls, text: str) -> Head:
        """Return the head that ``str`` made a text of. Raises InvalidRequest."""
        count, _, digest = text.strip().partition(":")
        if not (count.isascii() and count.isdigit() and len(digest) == len(NO_HASH)):
            raise InvalidRequest(f"a head of the audit log is a number, a colon and a hash, not {text[:80]!r}")
        return cls(int(count), digest)


@dataclass(frozen=True, slots=True)
class Broken:
    """The first line that is not what was written there, and how that is known."""

    line: int
    why: str


def verify(path: Path, head: Head | None = None) -> Head | Broken:
    """Check a log from its first line to its last.

    Args:
        path: of the log. The head beside it is checked too where there is one.
        head: one that was kept elsewhere.

    Returns:
        The log's head, or the first line that is broken.

    Raises:
        Unavailable: the log cannot be read.
        InvalidRequest: the file beside it is no head.
    """
    wanted = {} if head is None else {head.count: head.hash}
    beside = read_head(path)
    if beside is not None:
        if wanted.get(beside.count, beside.hash) != beside.hash:
            return Broken(beside.count, "the head beside the log is not the one that was kept elsewhere")
        wanted[beside.count] = beside.hash
    found = Head()
    try:
        for line in _lines(path):
            number = found.count + 1
            record = _record(line)
            why = "is not a whole line of an audit log" if record is None else _fault(record, found)
            if record is None or why is not None:
                return Broken(number, str(why))
            found = Head(number, record["hash"])
            if wanted.get(number, found.hash) != found.hash:
                return Broken(number, "is not the line that the head tells of")
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    if wanted and max(wanted) > found.count:
        return Broken(found.count + 1, f"is missing: the log had {max(wanted)} lines")
    return found


def read_head(path: Path) -> Head | None:
    """Return the head beside a log, None if there is none. Raises InvalidRequest and Unavailable."""
    try:
        return Head.parsed(_beside(path).read_text(encoding="ascii", errors="replace"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{_beside(path)} cannot be read: {error.strerror}") from error


class AuditLog:
    """The one writer of a log."""

    def __init__(self, path: Path) -> None:
        """Open a log, or make it. A last line of which a crash has left a part was never reported, and is cut off.

        Raises:
            CorruptData: the end of the log is not what its head tells of.
            Unavailable: it cannot be read or written.
        """
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
            os.chmod(path, 0o600)  # noqa: PTH101 - of the open file's path
            self.head = self._opened_at()
        except OSError as error:
            raise Unavailable(f"the audit log {path} cannot be opened: {error.strerror}") from error
        except InvalidRequest as error:
            raise CorruptData(f"the audit log {path}: {error.detail}") from error

    def append(self, events: Sequence[AuditEvent]) -> Head:
        """Write events, all or none; on disk when it returns. Raises Unavailable."""
        head, lines = self.head, []
        for event in events:
            line, head = _line(event, head)
            lines.append(line)
        size = self._file.seek(0, os.SEEK_END)
        try:
            left = memoryview(b"".join(lines))
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._back_to(size)
            raise Unavailable(f"the audit log {self._path} cannot be written: {error.strerror}") from error
        self.head = head
        self._write_head()
        return head

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._file.close()

    def _opened_at(self) -> Head:
        told = read_head(self._path) or Head()
        size = self._file.seek(0, os.SEEK_END)
        with self._path.open("rb") as file:
            file.seek(max(0, size - _MAX_LINE_BYTES))
            whole, _, torn = file.read().rpartition(b"\n")
        if torn:
            self._back_to(size - len(torn))
        record = _record(whole.rpartition(b"\n")[2] + b"\n") if whole else None
        if whole and (record is None or record["hash"] != _hash(record)):
            raise CorruptData(f"the last line of the audit log {self._path} is damaged; see `audit verify`")
        found = Head() if record is None else Head(record["n"], record["hash"])
        if found.count < told.count or (found.count == told.count and found.hash != told.hash):
            raise CorruptData(f"the audit log {self._path} does not end as its head tells; see `audit verify`")
        return found

    def _back_to(self, size: int) -> None:
        self._file.truncate(size)

    def _write_head(self) -> None:
        partial = self._path.with_name(f"{self._path.name}.partial")
        try:
            with partial.open("w", encoding="ascii") as file:
                file.write(f"{self.head}\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(_beside(self._path))
        except OSError as error:  # the lines are written: only what is cut off later would not be found
            logger.warning("the head of the audit log cannot be written: %s", error.strerror)


def _line(event: AuditEvent, head: Head) -> tuple[bytes, Head]:
    texts = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in asdict(event).items()}
    record: Json = {"n": head.count + 1, **texts, "prev": head.hash}
    record["hash"] = _hash(record)
    return json.dumps(record, separators=(",", ":")).encode() + b"\n", Head(head.count + 1, record["hash"])


def _hash(record: Json) -> str:
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _fault(record: Json, before: Head) -> str | None:
    if record["n"] != before.count + 1:
        return f"has the number {record['n']}: lines are missing, added or in another order"
    if record["prev"] != before.hash:
        return "does not follow the line before it: one of them is missing, added or in another place"
    return None if record["hash"] == _hash(record) else "has been changed"


def _record(line: bytes) -> Json | None:
    """Return what a line holds; None if it is cut or no record."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("n"), int):
        return None
    return record if isinstance(record.get("hash"), str) and isinstance(record.get("prev"), str) else None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_MAX_LINE_BYTES):
            yield line


def _beside(path: Path) -> Path:
    return path.with_name(path.name + HEAD_SUFFIX)
