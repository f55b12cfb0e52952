# `make` lists the targets. Everything runs in ./.venv, which is made when something is missing or has changed.

PYTHON ?= python3
EXP ?=
AT ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# The lock is complete: there is nothing to resolve. What is imported is compiled then; most of it never is.
INSTALL := $(PIP) install -qq --no-deps --no-compile

.DEFAULT_GOAL := help
.PHONY: help setup cascade promote serve nightly schedule test test-all lint ui bench faults

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Make ./.venv with all packages and fetch the embedded model; does nothing when that is done.
	@:

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is `$(PYTHON) --version 2>&1 | head -n 1`; cascade needs Python 3.11 or newer. Name one: make setup PYTHON=python3.12" >&2; exit 2; }
	@echo "Making $(VENV) …" >&2
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing `grep -c == requirements.lock` packages (minutes, the first time) …" >&2
	@$(INSTALL) "`grep ^pip== requirements.lock`" # pips from before 2024 take twice as long for the rest
	@$(INSTALL) -r requirements.lock
	@$(PIP) install -qq --no-compile "`grep ^torch== requirements.lock`" # a GPU build needs packages that no lock names
	@$(INSTALL) --no-build-isolation -e .
	@echo "Preparing the embedded model …" >&2
	@$(BIN)/cascade models prepare >&2
	@touch $@

cascade: ## Run an experiment: make cascade EXP=qa [ARGS="--new"].
	@test -n "$(EXP)" || { echo 'make: which experiment? Say make cascade EXP=qa; `cascade list` shows them all.' >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	@$(BIN)/cascade run "$(EXP)" $(ARGS)

promote: ## Take the challenger into service if it is better on test: make promote EXP=qa [ARGS="--note why"].
	@test -n "$(EXP)" || { echo 'make: which experiment? Say make promote EXP=qa; `cascade list` shows them all.' >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	@$(BIN)/cascade promote "$(EXP)" $(ARGS)

nightly: ## Take up new rows, try to beat what serves, send one challenger to the gate: make nightly EXP=qa [ARGS=--promote].
	@test -n "$(EXP)" || { echo 'make: which experiment? Say make nightly EXP=qa; `cascade list` shows them all.' >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	@$(BIN)/cascade nightly $(EXP) $(ARGS)

schedule: setup ## Try every night to beat what serves: make schedule EXP=qa AT=02:00 [ARGS=--remove]; make schedule ARGS=--list.
	@$(BIN)/cascade schedule $(if $(EXP),"$(EXP)") $(if $(AT),--at "$(AT)") $(ARGS)

serve: ## Serve the champion over HTTP: make serve EXP=qa [ARGS="--port 8000"].
	@test -n "$(EXP)" || { echo 'make: which experiment? Say make serve EXP=qa; `cascade list` shows them all.' >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	@$(BIN)/cascade serve "$(EXP)" $(ARGS)

test: setup ## Run the tests, but for those that take minutes.
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal $(ARGS)

test-all: setup ## Run all tests; the server is kept under load for ten minutes.
	@$(BIN)/python -m pytest --soak-seconds 600 $(ARGS)

lint: setup ## Check style and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

ui: setup ## Open MLflow on this project's runs: make ui [ARGS="--port 5001"].
	@$(BIN)/cascade ui $(ARGS)

bench: setup ## Measure speeds, what tracking costs, and whether verdicts hold what they promise.
	@set -e; for file in benchmarks/[!_]*.py; do echo "$$file"; $(BIN)/python $$file $(ARGS); done

faults: setup ## Inject every fault and show what the user sees and what is kept; writes docs/faults.md.
	@$(BIN)/python benchmarks/_fault_matrix.py
