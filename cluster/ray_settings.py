"""Settings of the Ray cluster: how many replicas there are, what each takes on, and how they protect themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1, le=1000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RayTlsSettings(_Section):
    """Ray's own TLS: each node shows a certificate of one authority. Files in PEM."""

    certificate: Path
    private_key: Path
    authority: Path


class RaySettings(_Section):
    """The Ray cluster.

    Attributes:
        replicas: of the ingress at the start.
        min_replicas, max_replicas: bounds between which their number follows the requests; None for ``replicas``.
        target_ongoing_requests: of each replica: more than that in all replicas together start another one.
        scale_down_s: how long fewer replicas must have been enough before one goes.
        drain_s: how long a replica that goes may take to answer what it has begun.
        auth_mode: ``token`` lets only processes join that have the same ``RAY_AUTH_TOKEN``.
        tls: of the connections between Ray's own processes.
        max_ongoing_requests: that a replica takes on; more are answered with 503 at once.
        max_wait_s: for how long what is ready may wait in a busy replica, before it takes on nothing more.
        max_queued_requests: calls by Ray handle that wait for a replica.
        redis_url: where Ray's head keeps its state, so that a crash of its control process loses nothing; None keeps
            it in memory.
    """

    num_cpus: Annotated[int, Field(ge=1)] | None = None
    replicas: Count = 1
    min_replicas: Count | None = None
    max_replicas: Count | None = None
    target_ongoing_requests: Annotated[float, Field(gt=0.0)] = 16.0
    scale_down_s: Annotated[float, Field(ge=0.0)] = 30.0
    drain_s: Annotated[float, Field(gt=0.0)] = 30.0
    auth_mode: Literal["disabled", "token"] = "disabled"
    tls: RayTlsSettings | None = None
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 256
    max_wait_s: Annotated[float, Field(gt=0.0)] = 1.0
    max_queued_requests: Annotated[int, Field(ge=-1)] = 1024
    redis_url: Annotated[str, Field(pattern=r"^rediss?://([^@/]*@)?[^@:/]+:\d+$")] | None = None

    @property
    def fewest_replicas(self) -> int:
        """How many there are when nothing is asked."""
        return self.replicas if self.min_replicas is None else self.min_replicas

    @property
    def most_replicas(self) -> int:
        """How many there may be."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> RaySettings:
        if not self.fewest_replicas <= self.replicas <= self.most_replicas:
            raise ValueError(
                f"replicas {self.replicas} must lie between min_replicas {self.fewest_replicas} and max_replicas "
                f"{self.most_replicas}"
            )
        return self
