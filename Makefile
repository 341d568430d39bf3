# goalsvc: `make help` lists what there is. Every target sets up all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: client-typescript openapi image drivers deliveries release drills reference client client-code explained docs docs-serve alerts help setup demo test test-fast format media e2e check audit bench events faults faults-short lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment and install from the lock

# The lock is complete, so there is nothing to resolve. Compiling is left to all cores at once, where pip would use one.
$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "goalsvc needs Python 3.11 or newer; set PYTHON=")'
	@echo "setting up $(VENV): about 220 MB to fetch, a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --no-deps --no-compile --require-hashes -r requirements-dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib src > $(VENV)/compileall.log 2>&1 || true
	@touch $@

demo: setup ## play a whole show on real parts, from signed webhook to payout and clip
	$(BIN)/goalsvc demo

test: setup client-code ## run all tests, on up to four processors; those that need node are skipped where there is none
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-fast: setup ## pure and in-memory tests, under a minute
	$(BIN)/python -m pytest -q tests/domain tests/signals tests/house tests/receivers tests/test_coalescer.py

format: setup ## fix and format with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

media: setup ## run all tests of clips, also those that take minutes
	GOALSVC_TEST_MEDIA=all $(BIN)/python -m pytest tests/media

e2e: setup ## run only the tests against a real Pusher-protocol server and its clients (needs node)
	$(BIN)/python -m pytest -m e2e tests/e2e

check: setup client-code alerts ## lint, types, import contracts, spelling, alerts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	@$(BIN)/codespell --dictionary .ci/words.txt src docs examples deploy $(wildcard *.md)

audit: setup ## what must not be in the repository, and known vulnerabilities of what is installed
	$(PIP) check
	$(BIN)/python .ci/repository.py
	$(BIN)/python .ci/advisories.py

events: setup ## follow the event log while eight writers write 100,000 events
	GOALSVC_TEST_LOGGED=100000 $(BIN)/python -m pytest -q --timeout 1800 tests/events/test_log.py -k eight_writers

deliveries: setup ## deliver 1,000 events to an endpoint that fails half of the time
	GOALSVC_TEST_DELIVERIES=1000 $(BIN)/python -m pytest -q --timeout 1800 tests/deliveries/test_courier.py -k half_of_the_time

explained: setup ## play a show with 5,000 contributions, and find each of its payouts in the trace
	GOALSVC_TEST_CONTRIBUTIONS=5000 $(BIN)/python -m pytest -q --timeout 1800 tests/stories/test_explained.py -k large_show

# Every odd field with every value; so many tests at a time.
ODD_TESTS := tests/stories/test_odd_verbs.py tests/stories/test_odd_promises.py tests/stories/test_odd_targets.py
drivers: setup ## the demo and all stories, with every document in the hand of each other driver; every odd field with every value (takes half an hour)
	for driver in Mongoose Doctrine Go "the shell"; do \
	  GOALSVC_TEST_DRIVER="$$driver" $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --timeout 1800 \
	    tests/cli/test_demo.py tests/stories -k "not odd" || exit 1; \
	done
	GOALSVC_TEST_ODD=all $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --timeout 1800 $(ODD_TESTS)

release: setup ## build wheel and sdist into dist/, and try them in an environment that has nothing else
	rm -rf dist/goalsvc-*
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python .ci/release.py dist

image: ## build the container image with docker, podman or buildah, and try it
	.ci/image

docs: setup ## build the documentation site into dist/site, strictly; `make docs-serve` serves it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

reference: setup ## write docs/reference and docs/llms.txt anew from the code
	$(BIN)/python -m tests.house.reference

docs-serve: setup ## serve the documentation on this machine
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8008

client-code: setup
	@$(BIN)/python clients/python/generate.py

client: client-code ## make the typed Python client from the OpenAPI document, as a wheel in dist/
	cd clients/python && $(abspath $(BIN))/python -m hatchling build -t wheel -d $(abspath dist)

openapi: setup ## lint the OpenAPI document, make clients of it; BASE=commit: breaking changes since then (needs node)
	.ci/openapi $(BASE)

client-typescript: setup ## make the TypeScript client, test it on `goalsvc dev`, pack it into dist/ (needs node)
	@command -v npm >/dev/null || { echo "node and npm (20 or newer) are not installed: there is no TypeScript client"; exit 1; }
	GOALSVC_TEST_TYPESCRIPT=all $(BIN)/python -m pytest -q -rs tests/integrator/test_typescript.py
	mkdir -p dist && cd clients/typescript && npm pack --silent --pack-destination $(abspath dist)

alerts: ## check and test the alerts (needs promtool)
	@if command -v promtool >/dev/null; then \
	  promtool check rules deploy/prometheus/goalsvc.rules.yml && promtool test rules deploy/prometheus/goalsvc.rules.test.yml; \
	else echo "promtool (Debian's package prometheus) is not installed: the alerts are not checked"; fi

bench: setup ## measure the targets of the specification, side by side
	$(BIN)/python -m bench

SEED ?= 1
faults: setup ## ten thousand simulated histories, and two hundred real kills; SEED=2, 3, … for others
	$(BIN)/python -W error -m tests.faults.run --histories 10000 --base-seed $$(($(SEED) * 100000 - 99999))
	$(BIN)/python -m tests.faults.kills --kills 200 --seed $(SEED)

drills: setup ## alerts, backups, TLS, full disks, outages, other clocks, least rights, mixed versions, many promises and dead letters, restarts under load
	GOALSVC_TEST_DRILLS=all $(BIN)/python -m pytest -q tests/drills tests/outages tests/tasks/test_full_redis.py tests/tasks/test_backlog.py
	$(BIN)/python -m tests.drills.run
	$(BIN)/python -m tests.drills.alerts

faults-short: setup ## a few real kills
	$(BIN)/python -m tests.faults.kills --kills 6 --seed 1

# $(call compile,EXTRAS…): resolves for every platform, with hashes, and leaves no registry's address behind.
compile = uv pip compile $(1) --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header --quiet
lock: ## renew the lock files (needs uv and npm)
	$(call compile,pyproject.toml --extra dev --extra test --extra otel --extra browser --extra docs) -o requirements-dev.lock
	$(call compile,pyproject.toml) -c requirements-dev.lock -o requirements.lock
	echo hatchling | $(call compile,-) -c requirements-dev.lock -o requirements-build.lock
	cd tests/e2e && npm install --package-lock-only --ignore-scripts --legacy-peer-deps --no-audit --no-fund
	$(PYTHON) .ci/strip_npm_lock.py tests/e2e/package-lock.json

clean: ## remove what can be made again: environment, caches, node modules (not the data of `goalsvc dev`)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist tests/e2e/node_modules clients/typescript/node_modules clients/typescript/build
	find src tests bench .ci -name __pycache__ -type d -prune -exec rm -rf {} +
