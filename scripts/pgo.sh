#!/bin/sh
# Builds with profiles: instrumented, run under a load of its own, built again with what was learned (rustc book,
# "Profile-guided Optimization"). Prints the folder with the binaries. Without arguments: sluis.
#
#     scripts/pgo.sh [sluis] [bare_pingora]
#
# The profile is named by its path, which does not change: what has been built with an older profile of the same name is
# kept by cargo. Remove target/pgo to begin anew.
#
# Needs an llvm-profdata of the LLVM in rustc: from the toolchain's llvm-tools, or Debian's llvm-NN.
# Exit code 2: there is none, and a plain build is what can be had.
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
say() { echo "pgo: $*" >&2; }

[ $# -gt 0 ] || set -- sluis

llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=
find_profdata() {
    for candidate in \
        "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
        "$(command -v "llvm-profdata-$llvm" || true)" \
        "/usr/lib/llvm-$llvm/bin/llvm-profdata"; do
        if [ -x "$candidate" ]; then
            profdata=$candidate
            return 0
        fi
    done
    return 1
}
if ! find_profdata; then
    scripts/install-packages.sh "llvm-$llvm" >&2 || true
    find_profdata || {
        say "no llvm-profdata for LLVM $llvm: rustup component add llvm-tools, or install llvm-$llvm"
        exit 2
    }
fi
scripts/install-bench.sh >&2 || {
    say "what makes the load cannot be installed"
    exit 2
}

# Several binaries get one profile, of all their loads together.
root="$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/pgo"
set_of="$(echo "$*" | tr ' ' '+')"
profile="$root/$set_of.profdata"
raw="$root/raw"
rm -rf "$raw"
mkdir -p "$raw"

build() { # folder, link-time optimisation, flags, binaries
    folder=$1
    lto=$2
    flags=$3
    shift 3
    binaries=
    for binary in "$@"; do
        case $binary in
        sluis) binaries="$binaries --bin sluis" ;;
        *) binaries="$binaries --example $binary" ;;
        esac
    done
    # With --target the flags are not for build scripts and procedural macros, which would leave profiles too.
    # shellcheck disable=SC2086
    RUSTFLAGS="${RUSTFLAGS:-} $flags" CARGO_TARGET_DIR="$folder" CARGO_BUILD_BUILD_DIR="$folder" \
        CARGO_PROFILE_DIST_LTO="$lto" SLUIS_COMMIT="${SLUIS_COMMIT:-}" \
        cargo build --quiet --locked --profile dist --target "$host" $binaries >&2
}

say "building, instrumented …"
# Fat LTO is of no use to a build that only counts, and takes minutes.
build "$root/counting" off "-Cprofile-generate" "$@"
say "running the load …"
benches/profile_load.py --bin "$root/counting/$host/dist" --out "$raw" "$@" >&2
"$profdata" merge -o "$profile" "$raw"/*/*.profraw
say "building with the profile …"
build "$root/$set_of" fat "-Cprofile-use=$profile" "$@"
echo "$root/$set_of/$host/dist"
