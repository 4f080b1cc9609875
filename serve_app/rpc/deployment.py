"""The deployment that serves gRPC: one replica with a server of its own, on a port of its own.

Ray Serve's own gRPC ingress takes no streams from callers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from ray import serve

from serve_app.ingress import IngressConfig, Replica
from serve_app.loopback import bind_to_loopback
from serve_app.rpc.calls import Backed
from serve_app.rpc.service import Bounds, Service, server_of

GRACE_S: Final = 4.0
"""How long calls that have begun may take when the replica ends; then they are cancelled."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where the server's certificate and private key are, in PEM."""

    certificate: Path
    private_key: Path = field(repr=False)


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """Where gRPC is served.

    Attributes:
        address: host and port.
        tls: None where keys may travel in the open: on loopback, and behind a proxy that ends TLS.
    """

    address: str
    bounds: Bounds
    tls: Certificate | None = None


class RpcDoor:
    """The replica."""

    async def __init__(self, config: IngressConfig, rpc: RpcConfig) -> None:  # type: ignore[misc] # Serve awaits it
        """Serve from now on."""
        bind_to_loopback()
        self._replica = Replica(config, "grpc")
        backed = Backed(self._replica.api, self._replica.parts)
        service = Service(backed, self._replica.gate, rpc.bounds, self._replica.parts.registry, self._replica.lines)
        self._server = server_of(service, rpc.bounds)
        if rpc.tls is None:
            self._server.add_insecure_port(rpc.address)
        else:
            pair = (rpc.tls.private_key.read_bytes(), rpc.tls.certificate.read_bytes())
            self._server.add_secure_port(rpc.address, grpc.ssl_server_credentials([pair]))
        await self._server.start()

    async def __del__(self) -> None:
        """Take no more calls, let those end that have begun, and hand over the last of the audit log."""
        await self._server.stop(GRACE_S)
        await self._replica.close()


deployment: Any = serve.deployment(name="grpc")(RpcDoor)
"""The ``RpcDoor`` as Ray Serve runs it."""
