#!/bin/sh
# Builds the pair that is compared, measures the single steps of a decision, then the whole; writes benches/RESULTS.md.
# Arguments go to compare.py, such as `--threads 1 --rounds 3`.
#
# SLUIS_BENCH_BUILD=0   takes what has been built before
# SLUIS_BENCH_GUIDED=1  a second pair beside it, built with profiles by scripts/pgo.sh (takes long the first time)
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
target="${CARGO_TARGET_DIR:-target}"

began=$(date +%s)
took() {
    now=$(date +%s)
    echo "$1: $((now - began)) s" >&2
    began=$now
}

if [ "${SLUIS_BENCH_BUILD:-1}" != 0 ]; then
    echo "building (with fat LTO: some minutes) …" >&2
    cargo build --quiet --locked --profile dist --bin sluis --example bare_pingora --bench decision --bench revocations --bench users
    took "built the pair"
fi
set -- --bin "$target/dist" "$@"
if [ "${SLUIS_BENCH_GUIDED:-0}" != 0 ]; then
    if [ "${SLUIS_BENCH_BUILD:-1}" = 0 ]; then
        guided="$(echo "$target"/pgo/sluis+bare_pingora/*/dist)"
    else
        guided="$(scripts/pgo.sh sluis bare_pingora)"
        took "built the pair with profiles"
    fi
    set -- --guided "$guided" "$@"
fi

steps="$(mktemp)"
trap 'rm -f "$steps"' EXIT
cargo bench --quiet --locked --profile dist --bench decision -- --quiet >"$steps"
cat "$steps"
took "measured the steps of a decision"
benches/compare.py --steps "$steps" "$@"
took "compared"
{
    printf '\n## Finding users by a part of their name\n\nA page of 100 on SQLite, median of 51; made by `benches/users.rs`.\n\n'
    cargo bench --quiet --locked --profile dist --bench users
    printf '\n## With many revocations\n\nMedian of 101 rounds; made by `benches/revocations.rs`. The second pair is what a session pays once after each new revocation; without any there is no table to look into.\n\n'
    cargo bench --quiet --locked --profile dist --bench revocations
} >>benches/RESULTS.md
took "searched users, and decided with revocations"
benches/fleet.py --bin "$target/dist"
took "measured several replicas"
