#!/bin/sh
# Fuzzes each target for so many seconds: scripts/fuzz.sh [SECONDS] [TARGET…]. Stable Rust: libFuzzer comes along as a crate,
# and the compiler is only asked to count. Without AddressSanitizer, since the code under test has no `unsafe`.
# What it finds lies in fuzz/artifacts; run a target's binary with that file to see it again.
set -eu
cd "$(dirname "$0")/../fuzz"
PATH="$HOME/.cargo/bin:$PATH"

seconds="${1:-60}"
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- paths cookies forms set_cookies
host="$(rustc -vV | sed -n 's/^host: //p')"

count=-Cllvm-args=-sanitizer-coverage
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module $count-level=4 $count-inline-8bit-counters $count-pc-table $count-trace-compares"
export RUSTFLAGS
# The versions that ship, and libFuzzer beside them. With a target named, build scripts and macros are built without all that.
cp ../Cargo.lock Cargo.lock
cargo build --quiet --release --target "$host"

seeds() {
    case "$1" in
        paths) cat ../tests/corpus/paths.txt ../tests/corpus/redirects.txt ;;
        cookies) cat ../tests/corpus/own-cookies.txt ;;
        forms) cat ../tests/corpus/forms.txt ;;
        set_cookies) cat ../tests/corpus/set-cookies.txt ../tests/corpus/upstream-cookies.txt ;;
    esac
}
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    # What the tests know already is a good beginning.
    if [ ! -e "corpus/$target/seeded" ]; then
        seeds "$target" | split -l 1 -a 4 - "corpus/$target/seed-"
        : >"corpus/$target/seeded"
    fi
    echo "fuzzing $target for $seconds s …" >&2
    "target/$host/release/$target" "corpus/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 -verbosity=0
done
