#!/bin/sh
# Installs those of the named Debian packages that are missing. Does nothing, and needs no root, when none is.
set -eu

missing=
for package in "$@"; do
    if ! dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "This is no Debian: install what corresponds to$missing yourself." >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "Root is needed once: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "installing$missing …" >&2
# Servers among them must not start: the tests run their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
fi
# A package list that is there already saves an update; an outdated one is made new.
install() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends $missing >"$log" 2>&1
}
log=$(mktemp)
if ! install; then
    $as_root apt-get update --quiet >/dev/null
    if ! install; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
fi
rm -f "$log"
