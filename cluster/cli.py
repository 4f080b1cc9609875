"""The command line ``quantum-db``: run a cluster, look at it, move data in and out of it.

Exit codes: 0 done, 2 something that was given is wrong, 3 the cluster did not answer, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from cluster.commands import audit, data, keys, quantum, running
from quantum_db.programs import run_program

PROGRAM: Final = "quantum-db"


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
    return run_program(build(), PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
