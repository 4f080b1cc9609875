"""Which way a configuration asks for. The one over HTTP is here; those that need Ray are found by their names."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from quantum_db.client.config import Config
from quantum_db.client.http import HttpTransport
from quantum_db.client.request import Transport
from quantum_db.errors import InvalidSettings

FACTORIES: Final = {"ray": "cluster.connect:ray_transport", "local": "cluster.local:local_transport"}
"""What makes the transports that need Ray from a ``Config``, as ``module:function``. They are imported when they are
asked for: as a client over HTTP this package works without them, and it knows nothing else of them."""


def transport_for(config: Config) -> Transport:
    """Return the way that a configuration asks for. Raises InvalidSettings."""
    if config.url is not None:
        return HttpTransport(config, config.url)
    name = "local" if config.ray_address is None else "ray"
    module, _, factory = FACTORIES[name].partition(":")
    try:
        found = getattr(import_module(module), factory)
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"a cluster without url needs the packages of a cluster here, and {error.name} is not installed"
        ) from error
    return cast("Transport", found(config))
