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
INSTALL = uv pip install --quiet --compile-bytecode --python $(BIN)/python
else
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

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

.PHONY: test
test: setup-test  ## The whole test suite (under 7 minutes on two cores)
	$(BIN)/python -m pytest tests

.PHONY: lint
lint: setup-test  ## Format, types, import rules, proto rules, fresh generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against proto/baseline.binpb
	$(BIN)/python scripts/generate_proto.py --check

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
lock:  ## Resolve pyproject.toml into the two lock files
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    --extra local --group build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    --extra local --group build --group test -c requirements.lock pyproject.toml -o requirements-test.lock

.PHONY: clean
clean:  ## Remove everything that make created
	rm -rf $(VENV) .work dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
