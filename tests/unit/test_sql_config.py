"""Settings: flag over environment over file over default, and each key changes what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidSettings
from sql_synthesizer.config import FLAGS, SqlSettings, load, variables

EXAMPLES: dict[str, tuple[Any, Any, Any]] = {
    "enabled": (True, False, True),
    "mode": ("conservative", "aggressive", "adaptive"),
    "optimizer.qubits": (8, 9, 10),
    "optimizer.temperature": (700.0, 800.0, 1000.0),
    "optimizer.cooling_rate": (0.8, 0.85, 0.9),
    "optimizer.min_temperature": (1.0, 2.0, 3.0),
    "optimizer.timeout_seconds": (2.0, 3.0, 4.0),
    "optimizer.method": ("quantum", "thermal", None),
    "cache.l1_size": (1.0, 2.0, None),
    "cache.l2_size": (1.0, 2.0, None),
    "cache.l3_size": (1.0, 2.0, None),
    "cache.ttl": (10.0, 20.0, 30.0),
    "cache.plan_ttl": (10.0, 20.0, None),
    "cache.strategy": ("lru", "adaptive", None),
    "cache.persistence": ("a.sqlite", "b.sqlite", None),
    "cache.redis_url": ("redis://127.0.0.1:1", "redis://127.0.0.1:2", None),
    "security.rate_limit": (10, 20, None),
    "security.max_request_bytes": (1000, 2000, None),
    "security.audit": ("a.log", "b.log", None),
    "security.block_failures": (2, 3, None),
    "security.block_window_s": (2.0, 3.0, None),
    "security.block_s": (2.0, 3.0, None),
    "security.breaker_failures": (2, 3, None),
    "security.breaker_reset_s": (2.0, 3.0, None),
    "performance.window": (50, 60, None),
    "performance.adaptation_interval": (1.0, 2.0, None),
    "performance.pool_size": (2, 3, None),
    "scaling.min_workers": (0, 2, None),
    "scaling.max_workers": (5, 6, None),
    "scaling.target_utilization": (0.5, 0.6, None),
    "scaling.cooldown": (5.0, 6.0, None),
    "agent.database_url": ("sqlite:///a", "sqlite:///b", "sqlite:///c"),
    "agent.max_rows": (10, 20, 30),
    "agent.timeout_seconds": (1.0, 2.0, None),
    "agent.schema_cache_ttl": (1.0, 2.0, 3.0),
    "agent.hidden": (["a"], ["b", "c.d"], None),
    "agent.openai_api_key": (None, "k1", "k2"),
    "agent.openai_base_url": ("http://a", "http://b", None),
    "agent.openai_model": ("a", "b", "c"),
    "agent.openai_timeout": (1.0, 2.0, 3.0),
    "agent.log_level": ("debug", "info", "error"),
    "agent.log_format": ("json", "text", "json"),
}
"""For each setting a value in the file, in the environment and as a flag; None where that is not possible."""


def nested(path: str, value: Any) -> dict[str, Any]:
    return {path.partition(".")[0]: nested(path.partition(".")[2], value)} if "." in path else {path: value}


def read(settings: SqlSettings, path: str) -> Any:
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "quantum_config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_every_setting_has_an_example() -> None:
    assert set(EXAMPLES) == set(variables().values())
    assert set(FLAGS.values()) == {path for path, (_, _, flag) in EXAMPLES.items() if flag is not None}


@pytest.mark.parametrize("path", EXAMPLES)
def test_flag_stands_above_environment_above_file_above_default(path: str, tmp_path: Path) -> None:
    of_file, of_environment, of_flag = EXAMPLES[path]
    name = next(variable for variable, setting in variables().items() if setting == path)
    text = ",".join(of_environment) if isinstance(of_environment, list) else str(of_environment)
    default = read(load(environment={}), path)
    if of_file is not None:
        file = written(tmp_path, nested(path, of_file))
        assert read(load(path=file, environment={}), path) == of_file != default
        assert read(load(path=file, environment={name: text}), path) == of_environment
    assert read(load(environment={name.lower(): text}), path) == of_environment
    if of_flag is not None:
        flag = next(one for one, setting in FLAGS.items() if setting == path)
        assert read(load({flag: of_flag}, environment={name: text}), path) == of_flag
        assert read(load({flag: None}, environment={name: text}), path) == of_environment


def test_the_values_reach_what_they_name() -> None:
    changed = {name: v for name, path in variables().items() if isinstance(v := EXAMPLES[path][1], str | int | float)}
    settings = load(environment={name: str(value) for name, value in changed.items()})
    schedule = settings.optimizer.schedule()
    assert isinstance(schedule, ThermalSchedule)
    assert (schedule.start, schedule.end) == (0.8, 0.002)
    assert (schedule.end / schedule.start) ** (1 / (schedule.sweeps - 1)) == pytest.approx(0.85, abs=0.005)
    policy = settings.cache.policy()
    assert (policy.l1_bytes, policy.ttl_s, policy.plan_ttl_s, policy.file) == (2 * 2**20, 20.0, 20.0, Path("b.sqlite"))
    assert settings.security.limits().requests_per_minute == 20
    assert (settings.security.blocks().failures, settings.security.breaker().open_s) == (3, 3.0)
    assert settings.scaling.autoscaling(settings.performance.pool_size) == {
        "min_replicas": 2,
        "max_replicas": 6,
        "target_ongoing_requests": pytest.approx(1.8),
        "downscale_delay_s": 6.0,
    }
    assert (settings.agent.limits().max_rows, settings.agent.limits().timeout_s) == (20, 2.0)
    assert (settings.agent.reflection().ttl_s, settings.agent.reflection().hidden) == (2.0, ())
    ring = load({"quantum_temp": 1000.0}, environment={"QUANTUM_OPTIMIZER_METHOD": "quantum"}).optimizer.schedule()
    assert isinstance(ring, QuantumSchedule)
    assert ring.temperature == 0.01


def test_an_environment_of_the_file_is_laid_over_it(tmp_path: Path) -> None:
    content = {
        "mode": "conservative",
        "cache": {"ttl": 5.0, "strategy": "lru"},
        "environments": {"production": {"cache": {"ttl": 50.0}}},
    }
    file = written(tmp_path, content)
    assert load(path=file, environment={}).cache.ttl == 5.0
    laid = load(path=file, env="production", environment={})
    assert (laid.mode, laid.cache.ttl, laid.cache.strategy) == ("conservative", 50.0, "lru")
    with pytest.raises(InvalidSettings, match="no environment 'produktion'; did you mean 'production'"):
        load(path=file, env="produktion", environment={})


def test_the_usual_file_is_read_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environment={}).mode == "balanced"
    with pytest.raises(InvalidSettings, match="there is none"):
        load(env="production", environment={})
    written(tmp_path, {"mode": "aggressive"})
    assert load(environment={}).mode == "aggressive"


@pytest.mark.parametrize(
    ("content", "variables_given", "message"),
    [
        ({"cache": {"tll": 3}}, {}, "cache.tll is not a known setting; did you mean 'plan_ttl' or 'ttl'"),
        ({"optimiser": {}}, {}, "optimiser is not a known setting; did you mean 'optimizer'"),
        ({"optimizer": {"cooling_rate": 1.5}}, {}, "optimizer.cooling_rate: "),
        ({"optimizer": {"min_temperature": 1e6}}, {}, "is above temperature"),
        ({"scaling": {"min_workers": 9}}, {}, "is above max_workers"),
        ({"agent": {"openai_api_key": "k"}}, {}, "is a secret: give it in QUERY_AGENT_OPENAI_API_KEY"),
        ({}, {"QUANTUM_CACHE_TLL": "3"}, "QUANTUM_CACHE_TLL is not a known setting; did you mean 'QUANTUM_CACHE_TTL'"),
        ({}, {"QUERY_AGENT_MAXROWS": "3"}, "did you mean 'QUERY_AGENT_MAX_ROWS'"),
        ([1], {}, "keys and values"),
    ],
)
def test_what_is_wrong_is_named(content: Any, variables_given: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=message):
        load(path=written(tmp_path, content), environment=variables_given)


def test_other_variables_are_left_alone_and_secrets_are_not_shown() -> None:
    settings = load(
        environment={"QUANTUM_DB_HTTP__PORT": "1", "QUANTUM_COMPUTER": "x", "QUERY_AGENT_OPENAI_API_KEY": "s3cret"}
    )
    assert "s3cret" not in repr(settings)
    with pytest.raises(InvalidSettings, match="no flag 'quantum_tmp'; did you mean 'quantum_temp'"):
        load({"quantum_tmp": 3}, environment={})
