"""What all actors share: names, bounded calls, and errors that come back as themselves."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from quantum_db.errors import QuantumDBError, Unavailable

NAMESPACE = "quantum-db"
CALL_TIMEOUT_S = 30.0
RESTARTS = {"max_restarts": -1, "max_task_retries": 0}
"""Actors come back after a crash. Calls are not repeated: a repeated call could act twice."""

T = TypeVar("T")


class ActorLost(Unavailable):
    """An actor died, or did not answer in time: what it was doing may or may not have been done."""


def named(name: str) -> ActorHandle[Any]:
    """Return the handle of a running actor.

    Raises:
        Unavailable: there is no such actor (yet).
    """
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        raise Unavailable(f"the actor {name} is not running", retry_after_s=1.0) from error


async def ask(reference: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
    """Await an actor's answer, at most ``timeout_s``.

    Raises:
        QuantumDBError: what the actor raised.
        ActorLost: the actor died, or did not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await reference
    except TimeoutError:
        raise ActorLost(f"an actor did not answer within {timeout_s:.3g} s", retry_after_s=1.0) from None
    except RayActorError as error:
        raise ActorLost("an actor died while it worked on this; it is being restarted", retry_after_s=1.0) from error
    except RayTaskError as error:
        if isinstance(error.cause, QuantumDBError):
            raise error.cause from None
        raise
