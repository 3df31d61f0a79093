#!/bin/sh
# What the comparison needs: the other proxies, a load generator, a counter of instructions, Python for the arithmetic.
set -eu
cd "$(dirname "$0")/.."

packages="haproxy redis-server valgrind wrk"
have() { command -v "$1" >/dev/null 2>&1; }
have nginx || packages="$packages nginx-light"
have python3 || packages="$packages python3"
have taskset || packages="$packages util-linux"
# shellcheck disable=SC2086
scripts/install-packages.sh $packages
