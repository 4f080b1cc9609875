"""All benchmarks of the quantum core, one after the other, in less than ten minutes: ``python -m benchmarks.quantum``.

Each runs in a process of its own, so that none profits from another's warm caches, and prints its own tables; their
docstrings name the peers. ``--only`` takes some of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

BENCHMARKS = (
    "overlap",
    "binding",
    "circuit_families",
    "planner",
    "shots",
    "amplitude_estimation",
    "noise",
    "entanglement",
    "tunneling",
    "subtopics",
    "modes",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    arguments = parser.parse_args()
    root, start = Path(__file__).parents[1], time.perf_counter()
    for name in arguments.only:
        print(f"\n## {name}\n", flush=True)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=root, check=True)  # noqa: S603 - our own
        print(f"\n{name}: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
