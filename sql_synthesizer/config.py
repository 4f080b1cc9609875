"""Settings of the synthesizer: defaults, then a YAML file, then the environment, then flags.

The file is ``quantum_config.yaml`` or what ``--config`` names: sections and ``environments``, of which ``--env`` picks
one that is laid over the rest. A variable is ``QUANTUM_`` with section and key (``QUANTUM_OPTIMIZER_TEMPERATURE``,
``QUANTUM_MODE``), or ``QUERY_AGENT_`` with a key of the section ``agent``. Unknown keys, and variables that begin like
a section, are refused with the near name. Secrets are in the environment alone, or in a flag.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.limits import CallLimits
from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidSettings
from quantum_db.jobs.breaker import BreakerPolicy
from quantum_db.near import near_name
from quantum_db.yaml_files import read_yaml
from sql_synthesizer.cache_levels import Strategy
from sql_synthesizer.caches import SqlCachePolicy
from sql_synthesizer.engines.ports import MAX_TIMEOUT_S, Limits
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.quantum.schedules import Mode, annealing_schedule

QUANTUM: Final = "QUANTUM_"
AGENT: Final = "QUERY_AGENT_"
OTHERS: Final = "QUANTUM_DB_"
"""The beginning of the database's own variables."""

DEFAULT_FILE: Final = Path("quantum_config.yaml")
ENVIRONMENTS: Final = "environments"
SECRETS: Final = ("openai_api_key",)

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
MIB: Final = 2**20


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OptimizerSettings(_Section):
    """The annealer and the circuits.

    Attributes:
        qubits: of a circuit at most: what is left beside a register of plans holds their costs.
        temperature, min_temperature: where annealing begins and ends, in thousandths of the landscape's spread.
        cooling_rate: by which the temperature is multiplied after each sweep.
        timeout_seconds: after which no further chain is started.
        method: thermal, or in a transverse field.
    """

    qubits: Annotated[int, Field(ge=4, le=24)] = 12
    temperature: Positive = 600.0
    cooling_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.96
    min_temperature: Positive = 10.0
    timeout_seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 1.0
    method: Literal["thermal", "quantum"] = "thermal"

    @model_validator(mode="after")
    def _it_cools(self) -> OptimizerSettings:
        if self.min_temperature > self.temperature:
            raise ValueError(f"min_temperature {self.min_temperature:g} is above temperature {self.temperature:g}")
        return self

    def schedule(self, mode: Mode = "balanced") -> ThermalSchedule | QuantumSchedule:
        """Return how plans are annealed in a mode."""
        return annealing_schedule(
            self.temperature / 1e3,
            self.cooling_rate,
            self.min_temperature / 1e3,
            mode,
            quantum=self.method == "quantum",
        )


class CacheSettings(_Section):
    """What is kept; sizes in MiB. ``persistence`` is the file of the third level; without it there is none."""

    l1_size: Annotated[float, Field(ge=0.0)] = 16.0
    l2_size: Annotated[float, Field(ge=0.0)] = 64.0
    l3_size: Annotated[float, Field(ge=0.0)] = 256.0
    ttl: Positive = 300.0
    plan_ttl: Positive = 3_600.0
    strategy: Strategy = "adaptive"
    persistence: Path | None = None
    redis_url: Annotated[str, Field(pattern=r"^rediss?://")] | None = Field(default=None, repr=False)

    def policy(self) -> SqlCachePolicy:
        """Return the same as the caches take it."""
        l1, l2, l3 = (int(size * MIB) for size in (self.l1_size, self.l2_size, self.l3_size))
        return SqlCachePolicy(l1, l2, l3, self.ttl, self.plan_ttl, self.strategy, self.persistence)


class SecuritySettings(_Section):
    """Who is let in where the synthesizer runs by itself; on the cluster the ingress sees to that.

    Attributes:
        rate_limit: requests a minute for each caller; None is no limit.
        max_request_bytes: of a question or statement.
        audit: the file of the audit log; None writes none.
        block_failures: statements refused within ``block_window_s`` that block a caller for ``block_s``.
        breaker_failures: in a row, after which the database is left alone for ``breaker_reset_s``.
    """

    rate_limit: Count | None = None
    max_request_bytes: Annotated[int, Field(ge=256)] = 64 * 1024
    audit: Path | None = None
    block_failures: Count = 20
    block_window_s: Positive = 60.0
    block_s: Positive = 300.0
    breaker_failures: Count = 5
    breaker_reset_s: Positive = 60.0

    def limits(self) -> CallLimits:
        """Return what is granted to a caller."""
        return CallLimits(requests_per_minute=self.rate_limit)

    def blocks(self) -> BlockPolicy:
        """Return when a caller is blocked."""
        return BlockPolicy(self.block_failures, self.block_window_s, self.block_s)

    def breaker(self) -> BreakerPolicy:
        """Return when the database is left alone."""
        return BreakerPolicy(self.breaker_failures, self.breaker_reset_s)


class PerformanceSettings(_Section):
    """How it watches itself.

    Attributes:
        window: queries that rates and percentiles are made of.
        adaptation_interval: seconds between two looks of the adaptive mode.
        pool_size: statements that run at the same time.
    """

    window: Annotated[int, Field(ge=10, le=1_000_000)] = 500
    adaptation_interval: Positive = 30.0
    pool_size: Annotated[int, Field(ge=1, le=1_000)] = 4


class ScalingSettings(_Section):
    """How many workers there are on the cluster.

    Attributes:
        target_utilization: share of its ``performance.pool_size`` that a worker is to be busy with.
        cooldown: seconds before a worker is taken away.
    """

    min_workers: Annotated[int, Field(ge=0)] = 1
    max_workers: Count = 4
    target_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    cooldown: Annotated[float, Field(ge=0.0)] = 60.0

    @model_validator(mode="after")
    def _min_is_below_max(self) -> ScalingSettings:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is above max_workers {self.max_workers}")
        return self

    def autoscaling(self, pool_size: int) -> dict[str, float]:
        """Return the same as an autoscaler by ongoing requests takes it."""
        return {
            "min_replicas": self.min_workers,
            "max_replicas": self.max_workers,
            "target_ongoing_requests": self.target_utilization * pool_size,
            "downscale_delay_s": self.cooldown,
        }


class AgentSettings(_Section):
    """The agent that runs statements. ``hidden`` are tables and columns that nobody may see, as in ``Reflection``."""

    database_url: str | None = Field(default=None, repr=False)
    max_rows: Count = 1_000
    timeout_seconds: Annotated[float, Field(gt=0.0, le=MAX_TIMEOUT_S)] = 10.0
    schema_cache_ttl: Annotated[float, Field(ge=0.0)] = 60.0
    hidden: tuple[str, ...] = ()
    openai_api_key: SecretStr | None = None
    openai_base_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    openai_model: str = "gpt-4o-mini"
    openai_timeout: Positive = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"

    def limits(self) -> Limits:
        """Return what a statement may take."""
        return Limits(max_rows=self.max_rows, timeout_s=self.timeout_seconds)

    def reflection(self) -> Reflection:
        """Return how the database is looked at."""
        return Reflection(hidden=self.hidden, ttl_s=self.schema_cache_ttl)


class SqlSettings(_Section):
    """All settings. ``enabled`` is whether the command line and servers optimise plans and keep answers."""

    enabled: bool = False
    mode: Mode = "balanced"
    optimizer: OptimizerSettings = OptimizerSettings()
    cache: CacheSettings = CacheSettings()
    security: SecuritySettings = SecuritySettings()
    performance: PerformanceSettings = PerformanceSettings()
    scaling: ScalingSettings = ScalingSettings()
    agent: AgentSettings = AgentSettings()


FLAGS: Final = {
    "enable_quantum": "enabled",
    "quantum_mode": "mode",
    "quantum_qubits": "optimizer.qubits",
    "quantum_temp": "optimizer.temperature",
    "quantum_cooling_rate": "optimizer.cooling_rate",
    "quantum_min_temp": "optimizer.min_temperature",
    "quantum_timeout": "optimizer.timeout_seconds",
    "cache_ttl": "cache.ttl",
    "schema_cache_ttl": "agent.schema_cache_ttl",
    "database_url": "agent.database_url",
    "max_rows": "agent.max_rows",
    "openai_api_key": "agent.openai_api_key",
    "openai_model": "agent.openai_model",
    "openai_timeout": "agent.openai_timeout",
    "log_level": "agent.log_level",
    "log_format": "agent.log_format",
}
"""The setting of each flag, by its name with underscores."""


def load(
    flags: Mapping[str, Any] | None = None,
    path: Path | None = None,
    env: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> SqlSettings:
    """Read the settings.

    Args:
        flags: by their names in ``FLAGS``; None is a flag that was not given.
        path: of the file; None takes ``quantum_config.yaml`` in the working directory where there is one.
        env: which of the file's ``environments`` is laid over it.
        environment: the variables; the process's own by default.

    Raises:
        InvalidSettings: a key, variable or flag is unknown, or a value is wrong; the message names it.
    """
    merged: dict[str, Any] = {}
    for layer in (
        _from_file(path, env),
        _from_environment(os.environ if environment is None else environment),
        _from_flags(flags or {}),
    ):
        _lay_over(merged, layer)
    try:
        return SqlSettings.model_validate(merged)
    except ValidationError as error:
        raise InvalidSettings(_told(error)) from None


def variables() -> dict[str, str]:
    """Return the setting of each variable that is known, as ``section.key``."""
    return dict(_variables())


def _variables() -> Iterator[tuple[str, str]]:
    for name, field in SqlSettings.model_fields.items():
        kind: Any = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            yield f"{QUANTUM}{name.upper()}", name
            continue
        prefix = AGENT if name == "agent" else f"{QUANTUM}{name.upper()}_"
        for key in kind.model_fields:
            yield f"{prefix}{key.upper()}", f"{name}.{key}"


def _from_file(path: Path | None, env: str | None) -> dict[str, Any]:
    path = path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    if path is None:
        if env is not None:
            raise InvalidSettings(f"--env {env} picks a part of the settings file, and there is none")
        return {}
    content = read_yaml(path)
    environments = content.pop(ENVIRONMENTS, None) or {}
    if env is not None:
        if not isinstance(environments, dict) or not isinstance(environments.get(env), dict):
            known = environments if isinstance(environments, dict) else ()
            raise InvalidSettings(f"{path} has no environment {env!r}{near_name(env, known)}")
        _lay_over(content, environments[env])
    agent = content.get("agent")
    for secret in SECRETS:
        if isinstance(agent, dict) and secret in agent:
            raise InvalidSettings(f"agent.{secret} is a secret: give it in {AGENT}{secret.upper()}, not in a file")
    return content


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = variables()
    found: dict[str, Any] = {}
    sections = tuple(f"{QUANTUM}{name.upper()}_" for name in SqlSettings.model_fields)
    for name, value in environment.items():
        upper = name.upper()
        if upper in known:
            _set(found, known[upper], _listed(value) if known[upper] == "agent.hidden" else value)
        elif upper.startswith((AGENT, *sections)) and not upper.startswith(OTHERS):
            raise InvalidSettings(f"the environment variable {name} is not a known setting{near_name(upper, known)}")
    return found


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in flags.items():
        if name not in FLAGS:
            raise InvalidSettings(f"there is no flag {name!r}{near_name(name, FLAGS)}")
        if value is not None:
            _set(found, FLAGS[name], value)
    return found


def _set(target: dict[str, Any], path: str, value: Any) -> None:
    *sections, key = path.split(".")
    for section in sections:
        target = target.setdefault(section, {})
    target[key] = value


def _lay_over(target: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _lay_over(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, dict) else value


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{path or 'settings'}: {first['msg']}"
    section: Any = SqlSettings
    if len(first["loc"]) > 1:
        section = SqlSettings.model_fields[str(first["loc"][0])].annotation
    return f"{path} is not a known setting{near_name(str(first['loc'][-1]), section.model_fields)}"
