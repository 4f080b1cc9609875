"""How kernels are compiled: by numba, when first called, and never kept on disk (its cache would be pickles)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function for the types it is called with; other threads run beside it."""
    return cast(Function, numba.njit(nogil=True, error_model="numpy")(function))
