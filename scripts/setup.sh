#!/usr/bin/env bash
# Makes .venv from requirements.lock: exact versions, checked hashes. Repeatable; does nothing that is done.
set -euo pipefail
cd "$(dirname "$0")/.."

python=""
for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or newer is needed (apt-get install python3 python3-venv)" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian keeps venv's pip in a package of its own.
    if [ "$(id -u)" -ne 0 ]; then
        echo "python3-venv is needed: sudo apt-get install python3-venv" >&2
        exit 1
    fi
    apt-get update -qq
    apt-get install -y -qq python3-venv
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
touch .venv/.complete
