"""The committed modules of the gRPC service say what its .proto says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTO = Path("serve_app/rpc/quantum_db.proto")
STAMPS = re.compile(
    r"^(?:# Protobuf Python Version: [^\n]*|GRPC_GENERATED_VERSION = [^\n]*|_runtime_version\.Validate[^)]*\))$",
    re.MULTILINE,
)
"""Which versions of the tools have made a module: those of the lock, or newer ones where they are installed."""


def made_of(proto: str, folder: Path) -> dict[str, str]:
    """Return the modules that the installed tools make of a .proto, by name, without stamps."""
    (folder / PROTO).parent.mkdir(parents=True)
    (folder / PROTO).write_text(proto, encoding="utf-8")
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder}", *outputs, str(folder / PROTO)]
    subprocess.run(command, check=True, timeout=60)
    return without_stamps(folder / PROTO.parent)


def without_stamps(folder: Path) -> dict[str, str]:
    return {path.name: STAMPS.sub("", path.read_text(encoding="utf-8")) for path in folder.glob("*_pb2*.py*")}


def test_the_modules_are_those_of_the_proto(tmp_path: Path) -> None:
    committed = without_stamps((ROOT / PROTO).parent)
    assert len(committed) == 3
    assert made_of((ROOT / PROTO).read_text(encoding="utf-8"), tmp_path) == committed, "run `make proto`"


@pytest.mark.parametrize(
    ("before", "after"),
    [("int32 top_k = 7", "int64 top_k = 7"), ("rpc Costs(", "rpc Expenses("), ("chsh = 6", "chsh = 7")],
)
def test_a_change_of_the_proto_alone_is_found(tmp_path: Path, before: str, after: str) -> None:
    proto = (ROOT / PROTO).read_text(encoding="utf-8")
    assert before in proto
    assert made_of(proto.replace(before, after), tmp_path) != without_stamps((ROOT / PROTO).parent)
