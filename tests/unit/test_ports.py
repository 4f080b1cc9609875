"""Ports for servers: free ones, and beside each other where a cluster's replicas need several."""

from __future__ import annotations

import socket

import pytest

from cluster import runtime
from cluster.runtime import FREE_PORTS, free_port, free_ports
from quantum_db.errors import Unavailable


def test_ports_are_free_and_in_their_range() -> None:
    found = free_ports(20)
    assert len(found) == 20
    for port in (free_port(), *found):
        assert port in FREE_PORTS
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_ports_that_somebody_has_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    base = free_ports(6).start
    monkeypatch.setattr(runtime, "FREE_PORTS", range(base, base + 6))
    with socket.socket() as server:
        server.bind(("127.0.0.1", base + 2))
        assert {free_ports(2).start for _ in range(200)} == {base, base + 3, base + 4}
        with pytest.raises(Unavailable, match="4 ports beside each other"):
            free_ports(4)
