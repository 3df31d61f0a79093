# The commands of this repository. Each works on a fresh Debian machine with git, a Rust toolchain and root.

SHELL := /bin/sh
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO := cargo
# More arguments for `make demo`, such as ARGS='--listen 127.0.0.1:9000 --state /tmp/sluis'
ARGS :=
# How long `make fuzz` takes for each of its targets (paths cookies forms set_cookies; all of them when none is named).
SECONDS := 60
TARGETS :=

.DEFAULT_GOAL := help
.PHONY: help demo test check bench fuzz dist

help: ## show this list
	@awk -F ': .*## ' '/^[a-z]+: .*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build, and start Sluis in front of a small legacy app
	@scripts/install-build.sh
	@scripts/install-packages.sh oathtool || true
	@echo "building (the first time takes some minutes) …"
	@$(CARGO) build --quiet --locked --bin sluis
	@$(CARGO) run --quiet --locked --bin sluis -- demo $(ARGS)

test: ## install what the tests need, then format, lints, dependencies and every test
	@scripts/install-build.sh
	@scripts/install-test.sh
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --quiet -- -D warnings
	$(CARGO) deny --locked --log-level error check --hide-inclusion-graph bans licenses sources
	$(CARGO) nextest run --locked

check: ## the fast loop: format, lints, unit tests
	@scripts/install-build.sh
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --quiet -- -D warnings
	$(CARGO) test --locked --quiet --lib

bench: ## measure beside bare pingora, nginx and HAProxy; writes benches/RESULTS.md
	@scripts/install-build.sh
	@scripts/install-bench.sh
	benches/run.sh

fuzz: ## look for inputs that break a parser: SECONDS for each of TARGETS
	@scripts/install-build.sh
	scripts/fuzz.sh $(SECONDS) $(TARGETS)

dist: ## the binary that ships, built with a profile: target/dist/sluis (PLAIN=1: without)
	@scripts/install-build.sh
	@scripts/dist.sh $(if $(PLAIN),plain)
