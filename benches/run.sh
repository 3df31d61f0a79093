#!/bin/sh
# Builds the pair that is compared, measures the single steps, then the whole; writes benches/RESULTS.md.
# Arguments go to compare.py, such as `--threads 1 --rounds 3`.
set -eu
cd "$(dirname "$0")/.."

echo "building (with fat LTO: some minutes the first time) …"
cargo build --quiet --locked --profile dist --bin sluis --example bare_pingora
steps="$(mktemp)"
trap 'rm -f "$steps"' EXIT
cargo bench --quiet --locked --profile dist --bench decision -- --quiet | tee "$steps"
benches/compare.py --bin "${CARGO_TARGET_DIR:-target}/dist" --steps "$steps" "$@"
