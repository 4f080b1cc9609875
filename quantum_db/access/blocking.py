"""Addresses from which bad credentials keep coming.

A block is of bad credentials only: a good one is let in from a blocked address too, so nobody can lock out his
neighbour behind the same address. What a blocked address loses is that each of its guesses is written down and told
of.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_ADDRESSES: Final = 10_000
MAX_ADDRESS_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class BlockPolicy:
    """So many ``failures`` within ``window_s`` block an address for ``block_s``."""

    failures: int = 20
    window_s: float = 60.0
    block_s: float = 300.0


@dataclass(slots=True)
class _Attempts:
    since_s: float
    count: int = 0
    until_s: float = 0.0


def normal_address(peer: str) -> str:
    """Return what stands for a caller: his address, or the network of 2^64 addresses that one IPv6 host has."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer[:MAX_ADDRESS_CHARS]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Blocks:
    """Counts bad credentials by address; the addresses of which least was heard lately are forgotten."""

    def __init__(self, policy: BlockPolicy) -> None:
        """Begin with nobody blocked."""
        self._policy = policy
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    def failed(self, address: str, count: int, now_s: float) -> bool:
        """Count bad credentials; return whether a block begins with them."""
        found = self._attempts.get(address)
        if found is None or (now_s - found.since_s > self._policy.window_s and now_s >= found.until_s):
            found = self._attempts[address] = _Attempts(now_s)
        self._attempts.move_to_end(address)
        while len(self._attempts) > MAX_ADDRESSES:
            self._attempts.popitem(last=False)
        found.count += count
        if now_s < found.until_s or found.count < self._policy.failures:
            return False
        found.until_s = now_s + self._policy.block_s
        return True

    def active(self, now_s: float) -> Mapping[str, float]:
        """Return the blocked addresses, and until when each is."""
        return {address: one.until_s for address, one in self._attempts.items() if now_s < one.until_s}

    def lift(self, address: str, now_s: float) -> bool:
        """Forget an address; return whether it was blocked."""
        found = self._attempts.pop(address, None)
        return found is not None and now_s < found.until_s
