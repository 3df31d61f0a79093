#!/bin/sh
# Builds the binary that ships: with a profile of its own load (scripts/pgo.sh), plain when that cannot be had or when
# `plain` is asked for. It is target/dist/sluis in both cases.
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
target="${CARGO_TARGET_DIR:-target}"
SLUIS_COMMIT="$(git rev-parse --short=12 HEAD 2>/dev/null || true)"
export SLUIS_COMMIT

if [ "${1:-}" != plain ]; then
    if built="$(scripts/pgo.sh sluis)"; then
        mkdir -p "$target/dist"
        cp "$built/sluis" "$target/dist/sluis.new"
        mv "$target/dist/sluis.new" "$target/dist/sluis"
        echo "built with its profile: $target/dist/sluis" >&2
        exit 0
    fi
    echo "NO PROFILE-GUIDED BUILD (see above): building plain, which is some per cent slower" >&2
fi
cargo build --locked --profile dist --bin sluis
