"""The one error tree. Each class is one HTTP problem type (RFC 9457), and every error survives pickling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request: where (``vectors[3].contexts[0].weight``), and what would be right."""

    path: str
    message: str


class QuantumDBError(Exception):
    """Base of all errors a caller can meet. ``slug``, ``status`` and ``title`` are fixed for a class."""

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The server failed"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = (), retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Callable[..., QuantumDBError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.detail, self.errors, self.retry_after_s)

    def problem(self) -> dict[str, Any]:
        """Return the RFC 9457 body, without the members that only the HTTP layer knows (instance, request id)."""
        body: dict[str, Any] = {
            "type": f"urn:quantum-db:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [{"path": error.path, "message": error.message} for error in self.errors]
        return body


def _rebuild(
    kind: type[QuantumDBError], detail: str, errors: tuple[FieldError, ...], retry_after_s: float | None
) -> QuantumDBError:
    return kind(detail, errors=errors, retry_after_s=retry_after_s)


class InvalidRequest(QuantumDBError):
    """The request is malformed; nothing was written or run."""

    slug, status, title = "invalid-request", 422, "The request is not valid"

    @classmethod
    def at(cls, path: str, message: str) -> InvalidRequest:
        """Return the error for one wrong field."""
        return cls(f"{path}: {message}", errors=[FieldError(path, message)])


class UnknownContext(InvalidRequest):
    """No entity has the asked context."""

    slug, status, title = "unknown-context", 422, "No entity has this context"


class NotFound(QuantumDBError):
    """Nothing is stored under this id, or the caller may not know that it is."""

    slug, status, title = "not-found", 404, "Not found"


class NoSuchCollection(NotFound):
    """The tenant has no collection of this name."""

    slug, status, title = "no-such-collection", 404, "There is no such collection"


class TooMany(QuantumDBError):
    """A limit on how many things are kept is reached; nothing was written."""

    slug, status, title = "too-many", 409, "A limit is reached"


class Unauthenticated(QuantumDBError):
    """There is no credential, or it is not good (any more); which of the two and why is told to nobody."""

    slug, status, title = "unauthenticated", 401, "A good credential is needed"


class Forbidden(QuantumDBError):
    """The credential is good, but not for this; nothing was done."""

    slug, status, title = "forbidden", 403, "The credential is not good for this"


class TooManyRequests(QuantumDBError):
    """The caller is above a limit; nothing was done. The same request may succeed after ``retry_after_s``."""

    slug, status, title = "too-many-requests", 429, "Too many requests"


class MethodNotAllowed(QuantumDBError):
    """The path is known, but not with this method; ``Allow`` says with which."""

    slug, status, title = "method-not-allowed", 405, "The path has no such method"


class BodyTooLarge(QuantumDBError):
    """The request body is above the limit."""

    slug, status, title = "body-too-large", 413, "The request body is too large"


class UnsupportedMediaType(QuantumDBError):
    """The request body is of a kind, or compressed in a way, that is not read here."""

    slug, status, title = "unsupported-media-type", 415, "The request body is of a kind that is not read here"


class Conflict(QuantumDBError):
    """The request contradicts what is stored; nothing was written."""

    slug, status, title = "conflict", 409, "The request contradicts what is stored"


class IllegalTransition(QuantumDBError):
    """A state was asked to make a step that its lifecycle does not have."""

    slug, status, title = "illegal-transition", 409, "The state cannot make this step"


class Overloaded(QuantumDBError):
    """A queue is full; the same request may succeed after ``retry_after_s``."""

    slug, status, title = "overloaded", 503, "Too much work is waiting"


class Unavailable(QuantumDBError):
    """A part of the cluster (store, actor, backend) does not answer."""

    slug, status, title = "unavailable", 503, "A part of the cluster does not answer"


class Fenced(Unavailable):
    """Another process has become the writer; this one may not write any more."""

    slug, status, title = "fenced", 503, "Another process has taken over"


class BreakerOpen(Unavailable):
    """The backend failed too often; nothing is sent to it before ``retry_after_s``."""

    slug, status, title = "breaker-open", 503, "The backend is taking a break"


class BudgetExceeded(QuantumDBError):
    """The work is estimated to cost more than is left; nothing was submitted."""

    slug, status, title = "budget-exceeded", 402, "The budget does not cover this"


class OutcomeUnclear(Unavailable):
    """A submission may have been accepted: it must be looked for by its key before anything is submitted again."""

    slug, status, title = "outcome-unclear", 503, "It is not known whether the job was accepted"


class DeadlineExceeded(QuantumDBError):
    """The work did not end within the caller's ``timeout_ms``."""

    slug, status, title = "deadline-exceeded", 504, "The deadline passed"


class JobFailed(QuantumDBError):
    """The quantum provider refused the job or failed while running it."""

    slug, status, title = "job-failed", 502, "The quantum job failed"


class JobCanceled(QuantumDBError):
    """The quantum job was canceled before it had a result."""

    slug, status, title = "job-canceled", 409, "The quantum job was canceled"


class InvalidCircuit(QuantumDBError):
    """A circuit cannot run on the chosen backend (qubits, gates, shots, angles)."""

    slug, status, title = "invalid-circuit", 422, "The circuit cannot run on this backend"


class SqlInvalid(InvalidRequest):
    """A statement cannot be read, or names what is not there, or fails on the data; nothing was changed."""

    slug, status, title = "sql-invalid", 422, "The statement cannot be run"

    @classmethod
    def in_sql(cls, message: str, line: int | None = None, column: int | None = None) -> Self:
        """Return the error for one part of a statement, by its line and column, both from 1, where they are known."""
        if line is None or column is None:
            return cls(message, errors=[FieldError("sql", message)])
        return cls(f"line {line}, column {column}: {message}", errors=[FieldError(f"sql:{line}:{column}", message)])


class SqlRefused(SqlInvalid):
    """A statement does, or may do, more than read the tables that it may see; it was not run."""

    slug, status, title = "sql-refused", 422, "The statement is not allowed"


class SqlTimeout(DeadlineExceeded):
    """A statement took longer than it may; the engine has stopped it."""

    slug, status, title = "sql-timeout", 504, "The statement took too long"


class UnclearQuestion(InvalidRequest):
    """Words could not be tied to tables and columns well enough to answer; what was missing is in the message."""

    slug, status, title = "unclear-question", 422, "The question is not clear enough"


class AmbiguousQuestion(UnclearQuestion):
    """Words have several readings that differ in their answer; ``errors`` lists them."""

    slug, status, title = "ambiguous-question", 422, "The question can be read in several ways"

    @classmethod
    def between(cls, readings: Sequence[str]) -> AmbiguousQuestion:
        """Return the error that asks which of the readings is meant."""
        listed = "; or ".join(readings)
        errors = [FieldError(f"readings[{index}]", reading) for index, reading in enumerate(readings)]
        return cls(f"which is meant: {listed}?", errors=errors)


class InvalidSettings(QuantumDBError):
    """The configuration cannot be used; the message names the key and what would be right."""

    slug, status, title = "invalid-settings", 500, "The configuration is not valid"


class CorruptData(QuantumDBError):
    """Stored data cannot be read back; refused instead of being treated as empty."""

    slug, status, title = "corrupt-data", 500, "Stored data cannot be read"
