"""Where load may go: to this machine only."""

from __future__ import annotations

from urllib.parse import urlsplit

from cluster.access_settings import is_loopback
from quantum_db.errors import InvalidSettings


def check_target(url: str) -> None:
    """Raise InvalidSettings where a URL is of another machine."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not is_loopback(parts.hostname or ""):
        raise InvalidSettings(f"{url}: load goes to a loopback address only, like http://127.0.0.1:8000")
