"""What the command-line programs share: how they end, and how they tell what is wrong."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from quantum_db.errors import DeadlineExceeded, Overloaded, QuantumDBError, Unavailable

WRONG: Final = 2
"""Exit code: something that was given is wrong."""
NO_ANSWER: Final = 3
"""Exit code: what was asked does not answer, or not in time."""
INTERRUPTED: Final = 130


def run_program(program: Callable[..., Any], name: str) -> int:
    """Run a program of typer; return its exit code. An error of the tree is one sentence on standard error."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without job control has it ignored
    try:
        program(prog_name=name)
    except SystemExit as end:  # how every command ends that raises nothing else
        if end.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        return end.code if isinstance(end.code, int) else 0
    except (Unavailable, Overloaded, DeadlineExceeded) as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return NO_ANSWER
    except QuantumDBError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return WRONG
    return 0
