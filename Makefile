# `make` lists the targets. Needed beforehand: a Rust toolchain, root (or sudo) and the package
# registries; scripts/setup.sh installs the rest on Debian 12 or newer.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Where `make install` puts things; DESTDIR goes in front of all of them.
DESTDIR ?=
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
# mount(8) looks for its helpers in /sbin, whatever PREFIX is.
HELPERDIR ?= /sbin

# The test binaries run one after another, the tests of one binary beside each other. Most of
# their time goes into waiting for small clusters, so two threads pay even on one core; more than
# four only make the deadlines tight.
export RUST_TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))

# Under CI a test that lacks something (root, a tool) fails; elsewhere it says so and is skipped.
# And what could go on for ever (fsx, two at once, and others) does for so many seconds.
ifeq ($(CI),true)
export KRG_REQUIRE_ALL := 1
export KRG_FSX_S ?= 60
endif

# A comma that does not part a call's arguments.
, := ,
say = @printf '\n== %s\n' '$(1)'

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' Makefile | column -t -s '|'

.PHONY: build
build: ## build everything for use here (target/debug)
	$(CARGO) build --workspace

.PHONY: release
release: ## build everything optimised (target/release)
	$(CARGO) build --workspace --release

.PHONY: test
test: ## install what the tests need, then formatting, lints, build and every test
	$(call say,setup: the tools that the tests run)
	@scripts/setup.sh test
	$(call say,formatting)
	$(CARGO) fmt --all --check
	$(call say,lints)
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(call say,build)
	$(CARGO) build --workspace
	$(call say,tests (threads: $(RUST_TEST_THREADS)$(if $(KRG_REQUIRE_ALL),; nothing may be skipped)))
	$(CARGO) test --workspace
	$(call say,the clusters once more$(,) with newer kernel features masked)
	@# Of the whole workspace: with other features of its crates all would be built anew.
	KRG_MASK=all $(CARGO) test --workspace --test tools --test faults --test jobs
	KRG_MASK=all KRG_FSX_S=20 $(CARGO) test --workspace --test files -- suites caches locks \
		owners tree

# Only here is tokio built with `tokio_unstable`, in a folder of its own: with it the order in which
# a `select!` looks at what is ready follows from the seed, and the same seed gives the same run.
SIM := RUSTFLAGS="$(RUSTFLAGS) --cfg tokio_unstable" CARGO_TARGET_DIR="$(TARGET_DIR)/sim" \
	KRG_SIM_EXACT=1

.PHONY: sim
sim: ## simulate the agreement: SEEDS=10000, or KRG_SIM_SEED=... for one again, or KRG_SIM_S=100
	$(SIM) KRG_SIM_SEEDS="$(SEEDS)" $(CARGO) test -p krg-tests --test sim -- --nocapture

.PHONY: soak
soak: ## clusters under faults for two hours (KRG_SOAK_S seconds), 200 power cuts, an hour of fsx
	$(call say,setup: the tools that the tests run)
	@scripts/setup.sh test
	$(CARGO) build --workspace
	$(CARGO) test -p krg-tests --test soak -- --ignored --nocapture
	$(CARGO) test -p krg-tests --test jobs -- --ignored --nocapture
	KRG_MOVES_SEEDS=$(or $(KRG_MOVES_SEEDS),1000000) $(CARGO) test -p krg-migrate --test moves \
		-- --nocapture
	KRG_POWERCUTS=200 $(CARGO) test -p krg-meta --test powercut
	KRG_FSX_S=$(or $(KRG_FSX_S),3600) $(CARGO) test -p krg-tests --test files suites -- --nocapture
	KRG_CASES=10000 $(CARGO) test -p krg-tests --test files tree -- --nocapture

.PHONY: demo
demo: ## a three-node cluster on this host: start it, look at it, stop it
	$(call say,setup: what the demo needs)
	@scripts/setup.sh run
	$(call say,build)
	$(CARGO) build --workspace
	@scripts/demo.sh

.PHONY: bench
bench: ## print the performance tables
	$(call say,setup: the tools that are measured)
	@scripts/setup.sh bench
	$(call say,build)
	$(CARGO) build --workspace --release
	$(CARGO) build -p krg-cluster --release --example gossip_sim
	@scripts/bench.sh

# No prerequisite: `sudo make install` must not build as root what `make release` has built.
.PHONY: install
install: ## install target/release to PREFIX (/usr/local), under DESTDIR if given
	@test -x "$(TARGET_DIR)/release/krg" || $(MAKE) release
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" HELPERDIR="$(HELPERDIR)" \
		scripts/install.sh install "$(TARGET_DIR)/release"

.PHONY: uninstall
uninstall: ## remove what install put there (the configuration stays)
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" scripts/install.sh uninstall

.PHONY: fmt
fmt: ## format the sources
	$(CARGO) fmt --all

.PHONY: lint
lint: ## formatting and clippy, as the tests check them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean
