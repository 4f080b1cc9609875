#!/usr/bin/env bash
# Installs PostgreSQL, which some tests start on a free loopback port and stop again. Does nothing where it is there.
set -euo pipefail
{ command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "PostgreSQL is needed by the tests: sudo apt-get install postgresql" >&2
    exit 1
fi
apt-get update -qq
# The package would start a server of its own; these tests start theirs.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
