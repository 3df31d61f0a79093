#!/bin/sh
# What a build needs: a Rust toolchain, a C compiler (SQLite, ring, mimalloc) and cmake (zlib-ng, for pingora).
set -eu
cd "$(dirname "$0")/.."

PATH="$HOME/.cargo/bin:$PATH"
if ! command -v cargo >/dev/null 2>&1; then
    echo "A Rust toolchain is missing: install rustup, then Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later." >&2
    exit 1
fi

packages=
have() { command -v "$1" >/dev/null 2>&1; }
have cmake || packages="$packages cmake"
have make || packages="$packages make"
{ have cc && have c++; } || packages="$packages gcc g++"
[ -e /usr/include/stdlib.h ] || packages="$packages libc6-dev"
# shellcheck disable=SC2086
[ -z "$packages" ] || scripts/install-packages.sh $packages
