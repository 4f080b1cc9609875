"""Settings: the file, the environment above it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.access_settings import TlsSettings
from cluster.haproxy_on_loopback import FORWARDED
from cluster.haproxy_on_loopback import mended as mended_config
from cluster.settings import HttpSettings, load
from quantum_db.errors import InvalidSettings

CONFIGS = Path(__file__).parents[2] / "configs"


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["local.yaml", "production.yaml"])
def test_the_shipped_files_are_valid(name: str) -> None:
    settings = load(CONFIGS / name)
    assert settings.jobs.max_concurrent_circuits == 10
    assert settings.jobs.default_backend in settings.jobs.backends


def test_production_takes_what_is_particular_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTUM_DB_STORE__URL", "http://qdrant.internal:6333")
    monkeypatch.setenv("QUANTUM_DB_RAY__REDIS_URL", "redis://:secret@redis.internal:6379")
    settings = load(CONFIGS / "production.yaml")
    assert (settings.store.kind, settings.store.url) == ("qdrant", "http://qdrant.internal:6333")
    assert settings.ray.redis_url == "redis://:secret@redis.internal:6379"
    assert settings.jobs.backends["ionq"].token_env == "IONQ_API_KEY"


def test_the_environment_stands_above_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "http: {port: 1111, host: 127.0.0.2}")
    assert load(path).http.port == 1111
    monkeypatch.setenv("QUANTUM_DB_HTTP__PORT", "2222")
    monkeypatch.setenv("QUANTUM_DB_GRPC__PORT", "3333")
    settings = load(path)
    assert (settings.http.port, settings.http.host, settings.grpc.port) == (2222, "127.0.0.2", 3333)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("htpp: {port: 1}", "htpp: is not a known field; did you mean 'http'?"),
        ("http: {prot: 1}", "http.prot: is not a known field; did you mean 'port'"),
        ("http: {port: many}", "http.port: must be a valid integer"),
        ("http: {port: 70000}", "http.port: must be less than or equal to 65535, not 70000"),
        ("store: {kind: qdrant}", "url is needed for kind qdrant"),
        ("store: {journal_url: 'redis://h:1'}", "journal_url is for kind qdrant"),
        ("jobs: {default_backend: simulater}", "'simulater' is not among backends; did you mean 'simulator'?"),
        ("ray: {replicas: 2, max_replicas: 1}", "replicas 2 must lie between min_replicas 2 and max_replicas 1"),
        ("ray: {min_replicas: 2}", "replicas 1 must lie between min_replicas 2 and max_replicas 1"),
        ("jobs: {workers: 3, max_workers: 2}", "floor 3 and ceiling 2"),
        ("jobs: {workers: 3, min_workers: 4, max_workers: 6}", "workers 3 must lie between min_workers 4 and max"),
        (
            "{ray: {max_replicas: 8}, limits: {per_key: {requests_per_s: 5}}}",
            "limits.per_key.requests_per_s: 5 cannot be shared by 8 replicas that count by themselves; set at least 8",
        ),
        (
            "{ray: {max_replicas: 8}, limits: {redis_url: 'redis://h', tenants: {a: {concurrent: 7}}}}",
            "limits.tenants.a.concurrent: 7 cannot be shared by 8 replicas",
        ),
        ("jobs: {backends: {a: {kind: ionqq}}}", "must be 'simulator' or 'ionq', not 'ionqq'"),
        ("jobs: {backends: {a: {kind: simulator, max_qbits: 3}}}", "max_qbits"),
        (
            "jobs: {backends: {simulator: {kind: simulator, noise_model: fort-1}}}",
            "noise_model: must be one of ideal, aria-1, forte-1, not 'fort-1'; did you mean 'forte-1'",
        ),
        ("jobs: {backends: {simulator: {kind: simulator, price_model: azur}}}", "did you mean 'azure"),
        ("- a list", "must hold keys and values"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_told_by_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(written(tmp_path, text))
    assert message in caught.value.detail


def test_numbers_are_fixed_unless_their_bounds_differ(tmp_path: Path) -> None:
    fixed = load(written(tmp_path, "{ray: {replicas: 3}, jobs: {workers: 2}}"))
    assert (fixed.ray.fewest_replicas, fixed.ray.most_replicas) == (3, 3)
    assert (fixed.jobs.scaling().floor, fixed.jobs.scaling().ceiling) == (2, 2)
    free = load(written(tmp_path, "{ray: {max_replicas: 3}, jobs: {max_workers: 4}}"))
    assert (free.ray.fewest_replicas, free.ray.most_replicas) == (1, 3)
    assert (free.jobs.scaling().floor, free.jobs.scaling().ceiling) == (1, 4)
    load(written(tmp_path, "{ray: {max_replicas: 8}, limits: {redis_url: 'redis://h', per_key: {requests_per_s: 5}}}"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="No such file"):
        load(tmp_path / "none.yaml")


def test_an_unknown_variable_is_told_with_the_near_name() -> None:
    with pytest.raises(InvalidSettings, match="QUANTUM_DB_HTTP__PROT is not a known setting; did you mean"):
        load(None, {"QUANTUM_DB_HTTP__PROT": "1"})
    assert load(None, {"HOME": "/root"}).http.port == 8000


def test_haproxys_side_ports_are_put_on_loopback() -> None:
    config = (
        "frontend prometheus\n    bind :9101\nfrontend http\n    bind 127.0.0.1:8000\nlisten stats\n  bind *:8404\n"
    )
    mended = mended_config(config, None, is_first=True)
    assert "bind 127.0.0.1:9101\n" in mended
    assert "bind 127.0.0.1:8404\n" in mended
    assert mended.count("bind 127.0.0.1:8000\n") == 1


CALLERS = (
    "frontend http_frontend\n    bind 0.0.0.0:443\n    mode http\n"
    "frontend grpc_frontend\n    bind 0.0.0.0:9000 proto h2\nbackend b\n    server s 127.0.0.1:1\n"
)


def test_haproxy_tells_who_calls_and_lets_nobody_say_so_for_himself() -> None:
    config = mended_config(CALLERS, None, is_first=True)
    assert config.count(FORWARDED) == 2
    assert mended_config(config, None, is_first=True) == config, "a configuration may be mended twice"
    assert FORWARDED not in mended_config(config, None, is_first=False)
    assert " ssl " not in config


def test_haproxy_speaks_tls_where_callers_come_in_alone() -> None:
    config = mended_config(CALLERS + "listen stats\n  bind *:8404\n", Path("/run/tls.pem"), is_first=True)
    assert "bind 0.0.0.0:443 ssl crt /run/tls.pem ssl-min-ver TLSv1.2 alpn http/1.1\n" in config
    assert "bind 0.0.0.0:9000 proto h2 ssl crt /run/tls.pem ssl-min-ver TLSv1.2 alpn h2\n" in config
    assert "bind 127.0.0.1:8404\n" in config
    assert mended_config(config, Path("/run/tls.pem"), is_first=True) == config


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_keys_do_not_travel_in_the_open(host: str) -> None:
    with pytest.raises(ValueError, match="behind_tls_proxy: true if a proxy"):
        HttpSettings(host=host)
    HttpSettings(host=host, behind_tls_proxy=True)
    HttpSettings(host=host, tls=TlsSettings(certificate=Path("c"), private_key=Path("k")))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert HttpSettings(host=host).tls is None


def test_secrets_are_no_settings() -> None:
    """They are not taken from a file, are no unknown variables either, and their values are in no error."""
    load(None, {"QUANTUM_DB_ADMIN_KEY": "k", "QUANTUM_DB_KEY": "k", "QUANTUM_DB_JWT_SECRET": "k"})
    with pytest.raises(InvalidSettings, match="QUANTUM_DB_ADMIN_KEI is not a known setting") as told:
        load(None, {"QUANTUM_DB_ADMIN_KEI": "hush"})
    assert "hush" not in told.value.detail
