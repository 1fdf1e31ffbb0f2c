# Everything that is done to this repository has its word here; `make` prints them.
# Assumes Rust and make. What else a target needs it installs, or names.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
# How long `make fuzz` spends on each decoder, in seconds.
FUZZ_SECONDS ?= 60

# What `make image-…` builds: for which machines (amd64, arm64), and the tag.
HOST_ARCH := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64)
ARCH ?= $(HOST_ARCH)
TAG ?= latest

# What the programs do under load, as `make profile` has seen it. Where it is there, images and the programs of
# `make bench` are built by it. Only the same compiler, kind of machine and choice of packages find their functions
# in it: all packages of the workspace, for a machine that is named.
PROFILE := target/profile/postern-$(shell rustc -vV 2>/dev/null | sed -n 's/^commit-hash: //p').profdata
BY_PROFILE = $$(test ! -e $(PROFILE) || echo '-C profile-use=$(CURDIR)/$(PROFILE)')

# Where `make bench` writes its results: for a whole run, where they are committed; for a part, nowhere.
BENCH_OUT ?= $(if $(BENCH_ONLY)$(BENCH_WAYS)$(BENCH_ROUNDS)$(BENCH_SECONDS),,docs/performance)

# Where `make chaos` writes its table: of a whole run, where it is committed; of a part, nowhere.
CHAOS_OUT ?= $(if $(CHAOS_ONLY)$(CHAOS_CARRIERS)$(CHAOS_ROUNDS)$(CHAOS_SHARE)$(CHAOS_SHORT),,docs/chaos.md)

FUZZ := crates/protocol/fuzz
# What fuzzing finds is collected here, outside what is committed. An input that broke a decoder belongs
# into $(FUZZ)/corpus, under a name that says what it is, so that every `make test` replays it.
FOUND := $(FUZZ)/target/found
# The tests that compare generated files with what they are generated from.
GENERATED := cargo test --locked -p postern-protocol -p postern-control-plane is_current

.PHONY: help
help: ## Print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The console: built where something in it is newer than what was built last.
CONSOLE := admin-web/dist/index.html
CONSOLE_SOURCES := $(shell find admin-web/src admin-web/public admin-web/scripts -type f) \
	$(addprefix admin-web/,index.html vite.config.ts postcss.config.cjs tsconfig.json)
CONSOLE_PACKAGES := admin-web/node_modules/.package-lock.json

.PHONY: console
console: $(CONSOLE) ## Build the console, which release builds of the control plane embed

$(CONSOLE): $(CONSOLE_PACKAGES) $(CONSOLE_SOURCES)
	cd admin-web && npm run --silent build

$(CONSOLE_PACKAGES): admin-web/package.json admin-web/package-lock.json
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
		|| { echo 'The console needs Node 20.19 or newer, with npm.' >&2; exit 1; }
	cd admin-web && npm ci
	@touch $@

.PHONY: screenshots
screenshots: $(CONSOLE) ## Take pictures of every page, in both themes and three widths, into target/screenshots
	tests/tools/prepare
	cargo build --locked --workspace --bins
	POSTERN_SCREENSHOTS=$(CURDIR)/target/screenshots cargo test --locked --workspace --test console

.PHONY: demo
demo: $(CONSOLE) ## Build, start everything here and run a workflow through a tunnel (DEMO_ONCE=1: then end)
	@test -e target/trial/demo || echo 'Building what the demo needs: some ten minutes on two cores, the first time.'
	cargo build --locked --profile trial --workspace --bin postern --bin postern-connector --bin demo
	target/trial/demo

.PHONY: test
test: $(CONSOLE) ## Run every test
	tests/tools/prepare
	cd admin-web && npm test
	cargo build --locked --workspace --bins
	cargo test --locked --workspace

.PHONY: check
check: $(CONSOLE) ## Judge style, lints, dependencies and generated files
	cargo fmt --all --check
	cargo fmt --manifest-path $(FUZZ)/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(GENERATED)
	cd admin-web && npm run --silent check
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny@$(CARGO_DENY)
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	if timeout 120 cargo deny --locked fetch db; then \
		cargo deny --locked check --disable-fetch --hide-inclusion-graph advisories; \
	else \
		echo 'NOT CHECKED: advisories. Their database cannot be fetched from here.' >&2; \
	fi

# A program that needs no file of any system, alone in a directory, as an image: its package, its image, its
# Dockerfile. In a target directory of its own, since other flags mean that everything is built anew. For
# another kind of machine than this one Docker needs BuildKit.
TRIPLE := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-gnu
define image
	RUSTFLAGS="-C target-feature=+crt-static $(if $(filter $(HOST_ARCH),$(ARCH)),$(BY_PROFILE))" cargo build --locked --release --workspace \
		--target $(TRIPLE) --target-dir target/static --bin $(1)
	@test -e $(PROFILE) -a $(ARCH) = $(HOST_ARCH) || echo 'Built without a profile, see `make profile`.'
	mkdir -p target/image/$(1)-$(ARCH)/data
	ln -f target/static/$(TRIPLE)/release/$(1) target/image/$(1)-$(ARCH)/
	docker build --quiet $(if $(filter-out $(HOST_ARCH),$(ARCH)),--platform linux/$(ARCH)) --tag $(2):$(TAG) --file $(3) \
		--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) target/image/$(1)-$(ARCH)
	@docker image inspect --format '$(2):$(TAG): {{.Os}}/{{.Architecture}}, {{.Size}} bytes' $(2):$(TAG)
endef
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER ?= aarch64-linux-gnu-gcc

.PHONY: image-connector
image-connector: ## Build the image of the connector (ARCH=amd64 or arm64, TAG=latest)
	$(call image,postern-connector,postern/connector,Dockerfile.connector)

.PHONY: image-postern
image-postern: $(CONSOLE) ## Build the image of control plane and edge
	$(call image,postern,postern/postern,compose/Dockerfile.postern)

.PHONY: fmt
fmt: $(CONSOLE_PACKAGES) ## Format all Rust and TypeScript
	cargo fmt --all
	cargo fmt --manifest-path $(FUZZ)/Cargo.toml
	cd admin-web && npm run --silent fix

.PHONY: generate
generate: $(CONSOLE_PACKAGES) ## Rewrite the files that are generated
	POSTERN_UPDATE=1 $(GENERATED)
	cd admin-web && npm run --silent generate

.PHONY: profile
profile: ## See what the programs do under load, so that images are built by it (a quarter of an hour)
	tests/tools/profile $(PROFILE)

.PHONY: bench
bench: ## Compare with a direct connection and other software (BENCH_ONLY=small BENCH_WAYS=quic,rathole: a part)
	@test -e $(PROFILE) || $(MAKE) profile || echo 'MEASURED WITHOUT A PROFILE: see what `make profile` says above.' >&2
	host=$$(rustc --print host-tuple); \
	RUSTFLAGS="$(BY_PROFILE)" cargo build --locked --release --workspace --target $$host --target-dir target/profile --bins; \
	target/profile/$$host/release/bench $$(test ! -e $(PROFILE) || echo --by-profile) $(if $(BENCH_OUT),--out $(BENCH_OUT))

.PHONY: chaos
chaos: ## Break parts and lines under load, and count what is lost (CHAOS_ONLY=edge-killed CHAOS_ROUNDS=1: a part)
	cargo build --locked --release --bins
	target/release/chaos $(if $(CHAOS_OUT),--out $(CHAOS_OUT))

.PHONY: conformance
conformance: ## Ask what the standards say, of Postern, HAProxy and a direct connection (CONFORMANCE="--ways quic --only chunk": a part)
	tests/tools/prepare
	cargo build --locked --workspace --bins
	target/debug/conformance $(if $(CONFORMANCE),$(CONFORMANCE),--out docs/conformance.md)

.PHONY: soak
soak: ## Run what takes too long for `make test`: many property cases, thousands of connections, long fuzzing
	PROPTEST_CASES=20000 cargo test --locked --release -p postern-protocol -p postern-link -p postern-connector
	cargo build --locked --release --bins
	POSTERN_CYCLES=20000 cargo test --locked --release -p postern-tests --test endurance -- --nocapture
	POSTERN_EXCHANGES=25000 cargo test --locked --release -p postern-tests --test ledger -- --nocapture
	POSTERN_LEDGER_MINUTES=60 cargo test --locked --release -p postern-tests --test ledger -- --nocapture
	$(MAKE) fuzz FUZZ_SECONDS=1800

.PHONY: fuzz-tools
fuzz-tools:
	rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz@$(CARGO_FUZZ)

.PHONY: fuzz
fuzz: fuzz-tools ## Fuzz every decoder for FUZZ_SECONDS (60) each
	for target in $$(ls $(FUZZ)/corpus); do \
		mkdir -p $(FOUND)/$$target; \
		cargo +nightly fuzz run --fuzz-dir $(FUZZ) $$target $(FOUND)/$$target $(FUZZ)/corpus/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1; \
	done
