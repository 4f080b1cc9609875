"""The settings of who may call, how much, and how it is kept from others."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from quantum_db.access.blocking import BlockPolicy
from quantum_db.access.limits import CallLimits, LimitTable
from quantum_db.access.sizes import SizeLimits
from quantum_db.access.tokens import ASYMMETRIC, SYMMETRIC, TokenPolicy

Amount = Annotated[int, Field(ge=1)] | None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JwtSettings(_Section):
    """Tokens of an identity provider; see ``quantum_db.access.tokens.TokenPolicy``.

    Attributes:
        public_key: a file in PEM; or ``jwks_file``. HS256 takes its secret from ``QUANTUM_DB_JWT_SECRET`` instead.
    """

    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    algorithms: Annotated[list[str], Field(min_length=1)]
    public_key: Path | None = None
    jwks_file: Path | None = None
    leeway_s: Annotated[float, Field(ge=0.0, le=300.0)] = 30.0
    tenant_claim: str = "tenant"
    role_claim: str = "role"

    @field_validator("algorithms")
    @classmethod
    def _are_of_one_kind(cls, algorithms: list[str]) -> list[str]:
        if not (set(algorithms) <= set(ASYMMETRIC) or set(algorithms) == set(SYMMETRIC)):
            raise ValueError(f"must be some of {', '.join(ASYMMETRIC)}, or HS256 alone")
        return algorithms

    @model_validator(mode="after")
    def _has_one_key(self) -> JwtSettings:
        given = [path for path in (self.public_key, self.jwks_file) if path is not None]
        if len(given) != (0 if tuple(self.algorithms) == SYMMETRIC else 1):
            raise ValueError("one of public_key and jwks_file is needed, and none of them with HS256")
        return self

    def policy(self) -> TokenPolicy:
        """Return what a token must say."""
        return TokenPolicy(
            self.issuer, self.audience, tuple(self.algorithms), self.leeway_s, self.tenant_claim, self.role_claim
        )


class AccessSettings(_Section):
    """Who may call.

    Attributes:
        journal_url: where the API keys are kept, hashed; None for ``access.sqlite`` in the data folder.
        audited_reads: the share of successful reads that the audit log tells of, 0 to 1. Writes and denials are always
            in it.
    """

    journal_url: str | None = None
    audited_reads: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    jwt: JwtSettings | None = None


class CallerLimits(_Section):
    """What is granted to one key or tenant; None is no limit. See ``limits.CallLimits`` and ``sizes.SizeLimits``."""

    requests_per_s: Amount = None
    requests_per_minute: Amount = None
    cost_units_per_minute: Amount = None
    concurrent: Amount = None
    body_bytes: Annotated[int, Field(ge=1024)] | None = None
    dimension: Amount = None
    batch: Amount = None
    top_k: Amount = None
    shots: Amount = None

    def limits(self) -> CallLimits:
        """Return the same as the limiter takes it."""
        sizes = SizeLimits(self.body_bytes, self.dimension, self.batch, self.top_k, self.shots)
        return CallLimits(
            self.requests_per_s, self.requests_per_minute, self.cost_units_per_minute, self.concurrent, sizes
        )


class BlockSettings(_Section):
    """So many ``failures``, which are bad credentials, within ``window_s`` block an address for ``block_s``."""

    failures: Annotated[int, Field(ge=1)] = 20
    window_s: Annotated[float, Field(gt=0.0)] = 60.0
    block_s: Annotated[float, Field(gt=0.0)] = 300.0

    def policy(self) -> BlockPolicy:
        """Return the same as the keeper takes it."""
        return BlockPolicy(self.failures, self.window_s, self.block_s)


class LimitSettings(_Section):
    """What is granted to whom. What a tenant may spend in a day is in ``jobs.tenants``.

    Attributes:
        redis_url: where all replicas count together; None lets each count its share by itself.
        per_key: to each key or token.
        default_tenant: to tenants that ``tenants`` does not name.
    """

    redis_url: Annotated[str, Field(pattern=r"^rediss?://")] | None = None
    per_key: CallerLimits = CallerLimits()
    default_tenant: CallerLimits = CallerLimits()
    tenants: dict[str, CallerLimits] = {}
    blocking: BlockSettings = BlockSettings()

    def check_shares(self, replicas: int) -> None:
        """Raise ValueError where a limit is too small for each replica to have a share of it."""
        for name, one in {"per_key": self.per_key, "default_tenant": self.default_tenant, **self.tenants}.items():
            told = f"tenants.{name}" if name in self.tenants else name
            for key in ("concurrent", "requests_per_s", "requests_per_minute", "cost_units_per_minute"):
                amount = getattr(one, key)
                alone = self.redis_url is None or key == "concurrent"  # the calls at once are in no Redis
                if alone and amount is not None and amount < replicas:
                    help_ = "" if key == "concurrent" else ", or limits.redis_url, where they count together"
                    raise ValueError(
                        f"limits.{told}.{key}: {amount} cannot be shared by {replicas} replicas that count by "
                        f"themselves; set at least {replicas}{help_}"
                    )

    def table(self) -> LimitTable:
        """Return the same as the limiter takes it."""
        named = {name: one.limits() for name, one in self.tenants.items()}
        return LimitTable(self.per_key.limits(), self.default_tenant.limits(), named)


class TlsSettings(_Section):
    """HTTPS. Both files in PEM; the certificate with those of its issuers behind it."""

    certificate: Path
    private_key: Path


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
