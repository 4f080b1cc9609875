"""What a client's configuration makes of the settings of the cluster that is started for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.local import IONQ_KEY_ENV, LocalTransport, settings_of
from cluster.settings import Settings, load
from quantum_db import Config
from quantum_db.client.request import Request
from quantum_db.client.routes import ROUTES
from quantum_db.errors import InvalidSettings, Unavailable

REDIS = "redis://:word@127.0.0.1:6379/0"


def settings(config: Config, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return what the started process reads from its environment."""
    for name, value in settings_of(config).items():
        monkeypatch.setenv(name, value)
    return load()


def test_a_configuration_without_settings_changes_none() -> None:
    assert settings_of(Config(max_pool_size=3, enable_cache=True)) == {}


def test_the_store_the_journals_and_the_backend_are_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(qdrant_url="http://127.0.0.1:6333", redis_url=REDIS, ionq_api_key="word", ionq_target="simulator")
    found = settings(config, monkeypatch)
    assert (found.store.kind, found.store.url) == ("qdrant", "http://127.0.0.1:6333")
    assert {found.jobs.journal_url, found.states.journal_url, found.groups.journal_url} == {REDIS}
    ionq = found.jobs.backends["ionq"]
    assert (ionq.kind, ionq.url, ionq.target) == ("ionq", "https://api.ionq.co/v0.4", "simulator")
    assert (found.jobs.default_backend, ionq.price_model) == ("ionq", "free")
    assert os.environ[ionq.token_env] == "word"
    assert ionq.token_env == IONQ_KEY_ENV
    assert "word" not in settings_of(config)["QUANTUM_DB_JOBS__BACKENDS"]


@pytest.mark.parametrize(
    ("target", "prices"), [("qpu.forte-1", "braket-forte"), ("qpu.aria-2", "braket-aria"), ("simulator", "free")]
)
def test_a_machine_has_a_published_price(target: str, prices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(ionq_api_key="word", ionq_url="http://127.0.0.1:8888/v0.4", ionq_target=target)
    ionq = settings(config, monkeypatch).jobs.backends["ionq"]
    assert (ionq.target, ionq.price_model, ionq.url) == (target, prices, "http://127.0.0.1:8888/v0.4")


def test_a_machine_without_a_published_price_is_not_taken_for_free() -> None:
    with pytest.raises(InvalidSettings, match=r"qpu\.tomorrow has no published price"):
        settings_of(Config(ionq_api_key="word", ionq_target="qpu.tomorrow"))


async def test_a_closed_way_says_so(tmp_path: Path) -> None:
    way = LocalTransport(Config(data_dir=tmp_path))
    with pytest.raises(Unavailable, match="is closed"):
        await way.call(Request("fetch", ROUTES["fetch"], ("a",), "default", None, 1.0))
    await way.close()
