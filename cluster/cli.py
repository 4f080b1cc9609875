"""The command line: run a cluster, or the demo."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from cluster import demo
from cluster.runtime import running, tend
from cluster.settings import load
from quantum_db.errors import QuantumDBError

TEND_S = 0.5
"""Between two looks at what the cluster stands on."""


def serve(config: Path) -> int:
    """Run a cluster until Ctrl-C or SIGTERM."""
    settings = load(config)
    print(f"starting with {config}, data in {settings.data_dir} ...", flush=True)
    try:
        with running(settings) as cluster:
            print(f"the cluster answers at {cluster.url} (try {cluster.url}/docs); Ctrl-C stops it", flush=True)
            while True:
                tend(settings)
                time.sleep(TEND_S)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    return 0


def main() -> int:
    """Parse the arguments and run; return the exit code."""
    parser = argparse.ArgumentParser(prog="quantum-cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run a cluster until Ctrl-C")
    serving.add_argument("--config", type=Path, default=Path("configs/local.yaml"), help="a YAML file of settings")
    commands.add_parser("demo", help="start a cluster, load WordNet, ask five questions, stop")
    arguments = parser.parse_args()
    try:
        return demo.main() if arguments.command == "demo" else serve(arguments.config)
    except QuantumDBError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
