"""API keys: their form, what is kept of them, and the table of all.

A key is ``qdb_<id>_<secret>``: an id of 12 hexadecimal digits that may be shown and logged, and a secret of 64, which
are 256 bits from the system's generator. Kept of the secret is its SHA-256. A slow, salted hash is for passwords that
people choose: it makes each guess dear. Nobody guesses one of 2^256 secrets, so a fast hash gives nothing away, and
every request can be checked without a cache of plain secrets.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

from quantum_db.access.principal import Principal, Role
from quantum_db.errors import Conflict, CorruptData, InvalidSettings, NotFound

PREFIX: Final = "qdb_"
MAX_KEYS: Final = 100_000
SECRET_BYTES: Final = 32
MIN_DISTINCT_BYTES: Final = 16
"""32 random bytes have fewer distinct ones less than once in 10^11 times; what a person typed usually has."""

_ID_BYTES: Final = 6
_TOKEN: Final = re.compile(r"qdb_([0-9a-f]{12})_([0-9a-f]{64})")
_NOBODY: Final = hashlib.sha256(b"nobody's").hexdigest()

Json = dict[str, Any]
RandomBytes = Callable[[int], bytes]
"""Returns so many random bytes: ``secrets.token_bytes``, or what a test wants."""


@dataclass(frozen=True, slots=True)
class Token:
    """A whole key, as its owner keeps it. It is shown once and stored nowhere."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"Token({PREFIX}{self.id}_...)"

    @property
    def digest(self) -> str:
        """What is kept of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def new_token(random_bytes: RandomBytes, key_id: str | None = None) -> Token:
    """Return a new key with a new id, or another secret for an id."""
    return Token(key_id or random_bytes(_ID_BYTES).hex(), random_bytes(SECRET_BYTES).hex())


def parsed(text: str) -> Token | None:
    """Return the key that a text is, None if it has another form."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else Token(*found.groups())


def given_token(text: str) -> Token:
    """Return a key that was chosen outside. Raises InvalidSettings if it has another form, or is no random one."""
    token = parsed(text)
    if token is None:
        raise InvalidSettings("an admin key has the form qdb_<12 hexadecimal digits>_<64 hexadecimal digits>")
    if len(set(bytes.fromhex(token.secret))) < MIN_DISTINCT_BYTES:
        raise InvalidSettings("the secret of the admin key is not random; make one with `openssl rand -hex 32`")
    return token


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key.

    Attributes:
        id: the part of it that is shown.
        name: what its owner calls it.
        tenant: whose data it is for, where ``cluster`` does not say: all tenants'.
        actions: what it may do of all that its role may; None for all.
        digest: SHA-256 of the secret, in hexadecimal.
        previous: the digest of the secret before the last rotation, good until ``previous_until_s``.
    """

    id: str
    name: str
    tenant: str
    role: Role
    digest: str
    created_at_s: float
    cluster: bool = False
    actions: frozenset[str] | None = None
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    previous: str | None = None
    previous_until_s: float = 0.0

    def is_good(self, now_s: float) -> bool:
        """Tell whether the key is neither revoked nor expired."""
        return self.revoked_at_s is None and (self.expires_at_s is None or now_s < self.expires_at_s)

    def principal(self) -> Principal:
        """Return who has this key."""
        return Principal(f"key:{self.id}", self.tenant, self.role, self.cluster, self.actions)

    def rotated(self, digest: str, previous_until_s: float) -> Key:
        """Return the key with another secret; the one before is good for a while."""
        return replace(self, digest=digest, previous=self.digest, previous_until_s=previous_until_s)

    def view(self, now_s: float) -> Json:
        """Return what may be shown: nothing of the secret."""
        status = "revoked" if self.revoked_at_s is not None else "active" if self.is_good(now_s) else "expired"
        return {
            "id": self.id,
            "prefix": f"{PREFIX}{self.id}",
            "name": self.name,
            "tenant": self.tenant,
            "role": self.role.label,
            "cluster": self.cluster,
            "actions": None if self.actions is None else sorted(self.actions),
            "status": status,
            "created_at_s": self.created_at_s,
            "expires_at_s": self.expires_at_s,
            "revoked_at_s": self.revoked_at_s,
            "previous_until_s": self.previous_until_s if self.previous_until_s > now_s else None,
        }

    def record(self) -> Json:
        """Return the key as JSON."""
        actions = None if self.actions is None else sorted(self.actions)
        return {**asdict(self), "role": self.role.label, "actions": actions}

    @classmethod
    def of_record(cls, raw: Mapping[str, Any]) -> Key:
        """Return the key that ``record`` made JSON of. Raises CorruptData."""
        try:
            actions = None if raw["actions"] is None else frozenset(raw["actions"])
            return cls(**{**raw, "role": Role.named(raw["role"]), "actions": actions})
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptData(f"the record of a key cannot be understood: {error!r}") from error


def _is_seen(principal: Principal, key: Key) -> bool:
    return principal.cluster or (key.tenant == principal.tenant and not key.cluster)


class KeyTable:
    """All keys, also those that were revoked. Implements ``journals.keeper.Kept``: a record is a key as it became."""

    def __init__(self) -> None:
        """Start empty."""
        self.taken = 0
        self._keys: dict[str, Key] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def owner(self, token: Token, now_s: float) -> Key | None:
        """Return the key with this id and secret if it is good. Takes as long for an unknown id as for a known one."""
        key, digest = self._keys.get(token.id), token.digest
        is_current = hmac.compare_digest(digest, _NOBODY if key is None else key.digest)
        previous = _NOBODY if key is None or key.previous is None or now_s >= key.previous_until_s else key.previous
        is_previous = hmac.compare_digest(digest, previous)
        return key if key is not None and (is_current or is_previous) and key.is_good(now_s) else None

    def was_good(self, token: Token) -> bool:
        """Tell whether a token is or was a key's, of now or before its last rotation: whoever shows it guesses none."""
        key = self._keys.get(token.id)
        current, previous = (_NOBODY, _NOBODY) if key is None else (key.digest, key.previous or _NOBODY)
        is_current, is_previous = (hmac.compare_digest(token.digest, one) for one in (current, previous))
        return is_current or is_previous

    def get(self, key_id: str, principal: Principal) -> Key:
        """Return a key that the caller may see. Raises NotFound, also when it is another tenant's."""
        key = self._keys.get(key_id)
        if key is None or not _is_seen(principal, key):
            raise NotFound(f"there is no key {key_id!r}")
        return key

    def seen_by(self, principal: Principal) -> list[Key]:
        """Return the keys that the caller may see, oldest first."""
        return sorted(
            filter(partial(_is_seen, principal), self._keys.values()), key=lambda key: (key.created_at_s, key.id)
        )

    def all(self) -> tuple[Key, ...]:
        """Return all keys."""
        return tuple(self._keys.values())

    def of_ids(self, ids: frozenset[str]) -> tuple[Key, ...]:
        """Return the keys with these ids."""
        return tuple(self._keys[one] for one in ids if one in self._keys)

    def holds(self, key_id: str) -> bool:
        """Tell whether there is or ever was a key with this id."""
        return key_id in self._keys

    def administrators(self, now_s: float) -> list[Key]:
        """Return the good keys that may do everything in the whole cluster, and do not expire."""
        return [
            key
            for key in self._keys.values()
            if key.cluster and key.role is Role.ADMIN and key.actions is None and key.expires_at_s is None
            if key.is_good(now_s)
        ]

    def check_room(self) -> None:
        """Raise Conflict if there are as many keys as there may be."""
        if len(self._keys) >= MAX_KEYS:
            raise Conflict(f"there are {MAX_KEYS:,} keys, revoked ones among them, which is as many as there may be")

    def put(self, key: Key) -> None:
        """Take in a key as it became."""
        self._keys[key.id] = key
        self.taken += 1

    def apply(self, number: int, record: Mapping[str, Any]) -> None:
        """Take in a record. Raises CorruptData."""
        try:
            self.put(Key.of_record(record["key"]))
        except (KeyError, CorruptData) as error:
            raise CorruptData(f"record {number} of the keys cannot be understood: {error}") from error

    def size(self) -> int:
        """Return how many keys there are."""
        return len(self._keys)

    def snapshot(self) -> Iterator[Json]:
        """Yield the records that make the same table."""
        for key in self._keys.values():
            yield {"key": key.record()}

    def check(self) -> None:
        """Raise CorruptData if a key contradicts itself."""
        for key in self._keys.values():
            if not re.fullmatch(r"[0-9a-f]{12}", key.id) or not re.fullmatch(r"[0-9a-f]{64}", key.digest):
                raise CorruptData(f"the key {key.id!r} is none; restore the journal from a backup")
