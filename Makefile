# Everything one does with Tundish from a checkout; `make help` lists it.
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input

# The first of these that is Python 3.11 or later; `make PYTHON=/path/to/python3 …` overrides it.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && command -v "$$p" && break; done)

# Test files are run by so many processes, each with servers of its own.
TESTS_AT_ONCE ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: up down test lint types bench bench-budgets bench-loop bench-limits leak-drill rotation-drill simulate fmt lock clean help

up: $(READY) ## run everything on this machine: http://127.0.0.1:4000 (TUNDISH_PORT); Ctrl-C stops it
	@$(BIN)/python -m deploy.local.up

down: $(READY) ## stop what `make up` runs from this folder (TUNDISH_HOME)
	@$(BIN)/python -m deploy.local.up --down

test: $(READY) ## run all tests (TESTS_AT_ONCE=1 runs them in one process)
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder

lint: types ## check style, formatting, layers and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(READY) ## check types strictly
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(READY) ## measure calls per second and added latency on this machine
	$(BIN)/python -m tests.bench.run

simulate: $(READY) ## run the money rules through random faults (SEEDS=100 FIRST=1 PROFILE=harsh)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),100) --first $(or $(FIRST),1) $(if $(PROFILE),--profile $(PROFILE))

bench-budgets: $(READY) ## measure whether budgets hold on 1, 2 and 4 proxies, with faults (an hour's quarter)
	$(BIN)/python -m tests.bench.budgets

leak-drill: $(READY) ## the leak drill, timed: 200 keys on three proxies, with and without Postgres
	$(BIN)/python -m tests.bench.leak_drill

rotation-drill: $(READY) ## three keys renewed each minute under load: exchange, Key Vault, webhook (four minutes)
	$(BIN)/python -m tests.bench.rotation_drill

bench-loop: $(READY) ## watch 64 looping agents run into a small budget (MINUTES=10)
	$(BIN)/python -m tests.bench.loop --minutes $(or $(MINUTES),10)

bench-limits: $(READY) ## offer ten times a rate limit to three proxies for two minutes
	$(BIN)/python -m tests.bench.limits

fmt: $(READY) ## format the code
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

lock: ## renew the lock files after a change of pyproject.toml (UPGRADE=--upgrade takes newer versions)
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(VENV)-lock/bin/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-annotate --no-header --output-file requirements.lock pyproject.toml
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--constraints requirements.lock --output-file deploy/requirements.lock pyproject.toml
	rm -rf $(VENV)-lock

clean: ## remove the virtual environment and caches (never the data in .tundish)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The virtual environment: made once, and again when the lock changes.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tundish needs Python 3.11 or later, and none was found. Install one, or: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Preparing $(VENV) with $(PYTHON); this happens once and takes a minute."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module does not work here (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
