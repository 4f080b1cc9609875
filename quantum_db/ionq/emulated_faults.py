"""Faults on demand: which request goes wrong, when, and how. Decisions only; the emulator carries them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

import numpy as np

from quantum_db.errors import InvalidRequest

RequestKind = Literal[
    "submit", "status", "results", "list", "cancel", "delete", "estimate", "backends", "sessions", "other"
]
Effect = Literal["status", "hang", "cut", "fail_job"]

MAX_RULES: Final = 100
MAX_HANG_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One rule. The first of the plan's rules that fits a request decides.

    Attributes:
        effect: ``status`` answers with ``status``; ``hang`` waits ``hang_s`` and then goes on; ``cut`` closes the
            connection in the middle of the answer; ``fail_job`` accepts the job, which then fails with ``code``.
        request: the kind of request that it is for; None for every kind.
        carried_out: whether the request is carried out before it goes wrong. A submission with ``status`` 504 and
            ``carried_out`` is a paid job whose answer is lost.
        from_call: the first request of the kind that the rule is for, counted from 1.
        probability: of each request that fits, by the plan's seeded generator.
        times: how often the rule strikes; None for no limit.
    """

    effect: Effect
    request: RequestKind | None = None
    status: int = 503
    retry_after_s: float | None = None
    hang_s: float = 0.0
    code: str = "SimulationError"
    carried_out: bool = False
    from_call: int = 1
    probability: float = 1.0
    times: int | None = None

    def __post_init__(self) -> None:
        """Check the values. Raises InvalidRequest."""
        _check(self.effect in get_args(Effect), "effect", f"must be one of {', '.join(get_args(Effect))}")
        _check(
            self.request is None or self.request in get_args(RequestKind),
            "request",
            f"must be null or one of {', '.join(get_args(RequestKind))}",
        )
        _check(_is_int(self.status) and 400 <= self.status <= 599, "status", "must be a whole number from 400 to 599")
        _check(
            self.retry_after_s is None or _is_number(self.retry_after_s, 0.0, 3600.0),
            "retry_after_s",
            "must be null or seconds from 0 to 3600",
        )
        _check(_is_number(self.hang_s, 0.0, MAX_HANG_S), "hang_s", f"must be seconds from 0 to {MAX_HANG_S:g}")
        _check(isinstance(self.code, str), "code", "must be a failure code")
        _check(isinstance(self.carried_out, bool), "carried_out", "must be true or false")
        _check(_is_int(self.from_call) and self.from_call >= 1, "from_call", "must be a whole number from 1")
        _check(_is_number(self.probability, 0.0, 1.0), "probability", "must be from 0 to 1")
        _check(self.times is None or (_is_int(self.times) and self.times >= 1), "times", "must be null or from 1")
        _check(
            self.effect != "fail_job" or self.request == "submit", "request", "must be 'submit' for the effect fail_job"
        )

    @classmethod
    def parse(cls, raw: object) -> FaultRule:
        """Return the rule that a JSON object describes. Raises InvalidRequest."""
        names = [field.name for field in fields(cls)]
        if not isinstance(raw, dict) or "effect" not in raw:
            raise InvalidRequest("a fault rule must be an object with an effect")
        unknown = sorted(set(raw) - set(names))
        if unknown:
            raise InvalidRequest(f"a fault rule has no {', '.join(unknown)}; it has {', '.join(names)}")
        return cls(**raw)


def _check(holds: bool, path: str, message: str) -> None:
    if not holds:
        raise InvalidRequest.at(path, message)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


class FaultPlan:
    """Rules, and how often each has struck."""

    def __init__(self, rules: tuple[FaultRule, ...] = (), *, seed: int = 0) -> None:
        self._rules = rules
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._calls: Counter[RequestKind] = Counter()
        self._struck = [0] * len(rules)

    @classmethod
    def parse(cls, raw: object) -> FaultPlan:
        """Return the plan of ``{"seed": 0, "rules": [...]}``. Raises InvalidRequest."""
        if not isinstance(raw, dict) or set(raw) - {"seed", "rules"}:
            raise InvalidRequest("a fault plan must be an object with rules, and maybe a seed")
        rules, seed = raw.get("rules", []), raw.get("seed", 0)
        if not isinstance(rules, list) or len(rules) > MAX_RULES:
            raise InvalidRequest.at("rules", f"must be a list of at most {MAX_RULES} rules")
        _check(_is_int(seed) and seed >= 0, "seed", "must be a whole number from 0")
        return cls(tuple(FaultRule.parse(rule) for rule in rules), seed=seed)

    def next(self, kind: RequestKind) -> FaultRule | None:
        """Count a request of this kind, and return the rule that strikes it."""
        self._calls[kind] += 1
        for index, rule in enumerate(self._rules):
            calls = self._calls[kind] if rule.request else self._calls.total()
            if rule.request not in {None, kind} or calls < rule.from_call:
                continue
            if rule.times is not None and self._struck[index] >= rule.times:
                continue
            if rule.probability < 1.0 and self._rng.random() >= rule.probability:
                continue
            self._struck[index] += 1
            return rule
        return None

    def describe(self) -> Mapping[str, Any]:
        """Return the plan as JSON, with the requests counted and how often each rule has struck."""
        return {
            "seed": self._seed,
            "rules": [asdict(rule) for rule in self._rules],
            "calls": dict(self._calls),
            "struck": list(self._struck),
        }


def kind_of(method: str, path: str) -> RequestKind:
    """Return the kind of a request by its method and its path below ``/v0.4``."""
    kind: RequestKind = "other"
    match (method, *path.strip("/").split("/")):
        case ("POST", "jobs"):
            kind = "submit"
        case ("GET", "jobs"):
            kind = "list"
        case ("GET", "jobs", "estimate"):
            kind = "estimate"
        case ("GET", "jobs", _):
            kind = "status"
        case ("GET", "jobs", _, "results", *_) | ("GET", "jobs", _, "artifacts", _):
            kind = "results"
        case ("PUT", "jobs", _, "status", "cancel"):
            kind = "cancel"
        case ("DELETE", "jobs", _):
            kind = "delete"
        case ("GET", "backends", *_):
            kind = "backends"
        case (_, "sessions", *_):
            kind = "sessions"
    return kind
