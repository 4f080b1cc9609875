#!/usr/bin/env bash
# Installs redis-server, which some tests start on a free loopback port and stop again. Does nothing where it is there.
set -euo pipefail
command -v redis-server >/dev/null && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "redis-server is needed by the tests: sudo apt-get install redis-server" >&2
    exit 1
fi
apt-get update -qq
# The package would start a server of its own; these tests start theirs.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null
