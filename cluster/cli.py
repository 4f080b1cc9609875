"""The command line: run a cluster, move data in and out of it, or see the demo.

Exit codes: 0 done, 2 something that was given is wrong, 3 the cluster did not answer, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from cluster import backups, demo
from cluster.connect import running_cluster
from cluster.exporting import export
from cluster.importing import Target, file_source, import_rows
from cluster.runtime import running, tend
from cluster.settings import Settings, load
from quantum_db.errors import DeadlineExceeded, InvalidRequest, Overloaded, QuantumDBError, Unavailable
from quantum_db.transfer.qdrant_source import QdrantSource

STATE_SUFFIX: Final = ".import-state"
QDRANT_KEY_ENV: Final = "QDRANT_API_KEY"

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


def import_from(arguments: argparse.Namespace, settings: Settings) -> None:
    """Import from a file, or from a Qdrant collection. Raises what ``import_rows`` raises."""
    named = str(settings.data_dir.resolve())
    target = Target(arguments.url or running_cluster(settings.data_dir)["url"], arguments.url or named)
    skip = arguments.skip_refused
    if arguments.file is not None:
        if arguments.from_qdrant is not None or arguments.collection or arguments.contexts_from:
            raise InvalidRequest("name a file, or --from-qdrant with --collection, not both")
        state = arguments.state or arguments.file.with_name(f"{arguments.file.name}{STATE_SUFFIX}")
        import_rows(file_source(arguments.file, arguments.ids), target, state, skip_refused=skip)
        return
    if arguments.from_qdrant is None or not arguments.collection or arguments.ids is not None:
        raise InvalidRequest("name a file, or --from-qdrant with --collection and without --ids")
    state = arguments.state or Path(f"{arguments.collection}{STATE_SUFFIX}")
    key, contexts = os.environ.get(QDRANT_KEY_ENV), arguments.contexts_from is not None
    source = QdrantSource(arguments.from_qdrant, key, arguments.collection, named_vectors=contexts)
    try:
        import_rows(source, target, state, skip_refused=skip)
    finally:
        source.close()


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="quantum-cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run a cluster until Ctrl-C")
    serving.add_argument("--config", type=Path, default=Path("configs/local.yaml"), help="a YAML file of settings")
    commands.add_parser("demo", help="start a cluster, load WordNet, ask five questions, stop")

    exporting = commands.add_parser("export", help="write all entities of a running cluster into a file")
    exporting.add_argument("file", type=Path)
    exporting.add_argument("--format", choices=("jsonl", "parquet"), help="else the end of the file's name tells it")

    importing = commands.add_parser("import", help="write entities into a running cluster; resumable")
    importing.add_argument("file", type=Path, nargs="?", help=".jsonl, .parquet, .npy or .npz")
    importing.add_argument("--ids", type=Path, help="for a .npy: a .npy or .json with one id for each vector")
    importing.add_argument("--from-qdrant", metavar="URL", help="or a folder of qdrant-client's local mode")
    importing.add_argument("--collection", help="of the Qdrant server or folder")
    importing.add_argument("--contexts-from", choices=("named-vectors",), help="make each named vector a context")
    importing.add_argument("--state", type=Path, help="where to keep how far it is; else beside the file")
    importing.add_argument("--skip-refused", action="store_true", help="list refused rows in a file, and go on")
    for command in (exporting, importing):
        command.add_argument("--url", help="of the cluster; else that of the cluster with its data in data_dir")

    backing_up = commands.add_parser("backup", help="copy a running cluster into a new folder")
    restoring = commands.add_parser("restore", help="make an empty data_dir from a backup, while no cluster runs")
    for command in (backing_up, restoring):
        command.add_argument("directory", type=Path)
    for command in (exporting, importing, backing_up, restoring):
        command.add_argument("--config", type=Path, help="the YAML file that the cluster is served with")
    return top


def run(arguments: argparse.Namespace) -> int:
    """Run a command; return the exit code. Raises QuantumDBError."""
    if arguments.command == "demo":
        return demo.main()
    if arguments.command == "serve":
        return serve(arguments.config)
    settings = load(arguments.config)
    match arguments.command:
        case "export":
            export(arguments.file, arguments.format, arguments.url or running_cluster(settings.data_dir)["url"])
        case "import":
            import_from(arguments, settings)
        case "backup":
            backups.back_up(arguments.directory, settings.data_dir)
        case "restore":
            backups.restore(arguments.directory, settings)
    return 0


def main() -> int:
    """Parse the arguments and run; return the exit code."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without job control has it ignored
    try:
        return run(arguments)
    except (Unavailable, Overloaded, DeadlineExceeded) as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 3
    except QuantumDBError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
