"""Inner loops in machine code. Nothing compiled is kept on disk, since that would be unpickled when it is read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Return the function, compiled at its first call; other threads run meanwhile."""
    return cast(F, numba.njit(nogil=True, cache=False)(function))
