# goalsvc: `make help` lists what there is. `make demo` and `make test` set up all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench faults lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment and install from the lock

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "goalsvc needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## play a whole show on real parts, from signed webhook to payout and clip
	$(BIN)/goalsvc demo

test: setup ## run all tests
	$(BIN)/python -m pytest

check: setup ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: ## renew both lock files (needs uv)
	uv pip compile pyproject.toml --extra dev --extra test --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header -o requirements-dev.lock -q
	uv pip compile pyproject.toml --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header -o requirements.lock -c requirements-dev.lock -q
