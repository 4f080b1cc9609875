"""The command line ``quantum-db``: run a cluster, look at it, move data in and out of it.

Exit codes: 0 done, 2 something that was given is wrong, 3 the cluster did not answer, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Final

import typer

from cluster.commands import audit, data, keys, quantum, running
from quantum_db.errors import DeadlineExceeded, Overloaded, QuantumDBError, Unavailable

PROGRAM: Final = "quantum-db"
WRONG: Final = 2
NO_ANSWER: Final = 3
INTERRUPTED: Final = 130


def build() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=True
    )
    for group in (running, data, quantum, keys, audit):
        group.add(app)
    return app


def main() -> int:
    """Run the command that the arguments name; return the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without job control has it ignored
    try:
        build()(prog_name=PROGRAM)
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


if __name__ == "__main__":
    sys.exit(main())
