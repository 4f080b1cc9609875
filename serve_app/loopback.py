"""Keeps a replica's inter-deployment gRPC server off the outside.

Ray Serve binds it to all addresses, has no setting for it, and unpickles what arrives there. On a node whose own
address is loopback, nothing else has a reason to reach it. A test looks at the listening sockets of a whole cluster.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private import replica

WILDCARD = "[::]"
LOOPBACK = "127.0.0.1"


def bind_to_loopback() -> None:
    """Make this process's replica bind to 127.0.0.1 if the node's address is that. Call it in the constructor."""
    if ray.util.get_node_ip_address() != LOOPBACK:
        return
    add_port = replica.add_port_to_grpc_server
    if getattr(add_port, "on_loopback", False):
        return

    def add_port_on_loopback(server: Any, address: str) -> int:
        return int(add_port(server, address.replace(WILDCARD, LOOPBACK)))

    add_port_on_loopback.on_loopback = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = add_port_on_loopback
