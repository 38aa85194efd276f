# The interface for people and for continuous integration: `make help` lists it. Every target works in a fresh clone.
# Settings: NATS_SERVER_BIN, REDIS_SERVER_BIN (other server binaries), HELLO_JS=no (leave the JavaScript example out),
# TESTS="..." (arguments of the test runner, such as a name filter), DEV="..." and BENCH="..." (arguments of the program).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Programs that setup installs are found here first, by us and by the tests.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
LONGSHORE := $(TARGET_DIR)/debug/longshore
HELLO_JS ?= yes
COMPOSE_FILES := docker-compose.yml docker-compose.runner-dev.yml

comma := ,
step = @printf '\n==> %s\n' "$(1)"

##@ Running

.PHONY: run
run: setup hello-js bins ## Install what is missing, build, start everything on 127.0.0.1:8085 and call the examples
	@exec $(LONGSHORE) dev $(DEV)

.PHONY: setup
setup: ## Install what is missing, without Docker: nats-server into .venv, redis-server from the distribution
	$(call step,setup)
	@scripts/setup.sh

##@ Checking

# One step after the other, and the steps that take seconds before those that take minutes.
.PHONY: test
test: ## Format, lints, deny, guests, deployment files, all tests, the OpenAPI document, and `longshore dev --once`
	$(call step,setup)
	@scripts/setup.sh --tests
	@$(MAKE) check-format check-deploy check-guests check-deny
	@$(MAKE) hello-js MAKE_GOAL=test
	@$(MAKE) examples
	@$(MAKE) check-clippy check-tests check-openapi check-dev
	@printf '\n==> make test: all passed\n'

.PHONY: lint
lint: check-format check-clippy check-deny ## Format, clippy and cargo-deny only

.PHONY: check-format
check-format:
	$(call step,cargo fmt --check)
	@cargo fmt --all --check

.PHONY: check-clippy
check-clippy:
	$(call step,clippy$(comma) warnings denied)
	@cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: check-deny
check-deny:
	$(call step,cargo deny: bans$(comma) licences$(comma) sources)
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --workspace check bans licenses sources; \
	else echo 'left out: cargo-deny is not installed (cargo install cargo-deny --locked)'; fi

.PHONY: check-guests
check-guests:
	$(call step,guests are built from these sources)
	@scripts/build-guests.sh --check

# Passwords from the environment have no default in nats.conf; here any will do.
.PHONY: check-deploy
check-deploy:
	$(call step,deployment files)
	@scripts/setup.sh --tests >/dev/null
	@check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE_FILES)
	@check-jsonschema --builtin-schema vendor.github-workflows docs/ci/extension.yml docs/ci/replay.yml
	@NATS_SHIM_PASSWORD=check NATS_WORKER_PASSWORD=check NATS_CALLER_PASSWORD=check NATS_CONTROL_PASSWORD=check NATS_ADMIN_PASSWORD=check \
		NATS_STORE_DIR='"$(CURDIR)/.longshore/check"' "$${NATS_SERVER_BIN:-nats-server}" -t -c deploy/nats.conf
	@.venv/bin/python scripts/check-compose.py

# All targets in one go: the end-to-end tests start the three programs, and one command resolves the features of every crate once,
# so that nothing is compiled twice. Documentation tests run apart because nextest cannot.
.PHONY: check-tests
check-tests:
	$(call step,build)
	@cargo build --workspace --all-targets --locked
	$(call step,tests)
	@if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace --locked $(TESTS); \
	else cargo test --workspace --locked --lib --bins --tests --no-fail-fast -- $(TESTS); fi
	$(call step,documentation tests)
	@cargo test --workspace --locked --doc --quiet

# OPENAPI_EXAMPLES: random requests for each operation, beside those that try the document's boundaries.
.PHONY: check-openapi
check-openapi: bins ## Try docs/openapi.json against a running fleet
	$(call step,docs/openapi.json against a running fleet)
	@scripts/setup.sh --tests >/dev/null
	@.venv/bin/python scripts/check-openapi.py

.PHONY: check-dev
# On free ports and with data of its own, so that it runs beside a `make run`.
check-dev:
	$(call step,longshore dev --once)
	@$(LONGSHORE) dev --once --ports auto --data .longshore/check

##@ Measuring

.PHONY: bench
bench: setup bins ## Calls beside their floor, the gateway route, lookups and changes of installs, host calls, capture
	$(call step,bench)
	@cargo run --quiet --locked -p longshore-bench -- $(BENCH)

##@ Making

.PHONY: bins
bins:
	$(call step,build)
	@cargo build --workspace --bins --locked

.PHONY: hello-js
hello-js:
ifeq ($(HELLO_JS),no)
	@printf '  %-18s %s\n' hello-js 'left out: HELLO_JS=no'
else
	@MAKE_GOAL=$(or $(MAKE_GOAL),run) scripts/setup-hello-js.sh
endif

.PHONY: examples
examples: ## Build the examples in TypeScript, JavaScript and Python (Node >= 20; the Rust ones are committed)
	$(call step,examples)
	@scripts/setup.sh --tests >/dev/null
	@scripts/build-examples.sh

.PHONY: guests
guests: ## Build the guests of tests and examples again (needs a wasm toolchain; the built ones are committed)
	@scripts/build-guests.sh

# Through a file beside it: a failing program must not leave an empty page.
.PHONY: docs
docs: ## Write docs/configuration.md and docs/cli.md again from the declarations of settings and commands
	@for page in configuration:config-docs cli:cli-docs; do file=docs/$${page%%:*}.md; \
		cargo run --quiet --locked -p longshore-cli -- $${page##*:} > $$file.new || { rm -f $$file.new; exit 1; }; \
		mv $$file.new $$file; echo "$$file is written"; done

.PHONY: fmt
fmt: ## Format all Rust code
	@cargo fmt --all

.PHONY: clean-dev
clean-dev: ## Remove the data of `make run` (.longshore); nothing that was built or installed
	@rm -rf .longshore
	@echo '.longshore is removed'

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
