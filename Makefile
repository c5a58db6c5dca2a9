# `make run` and `make test` are all a newcomer needs; both make the environment if there is none.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN = .venv/bin
# A file's tests stay together and in their order: they share servers that are costly to start.
PARALLEL ?= --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: run worker test slow quick faults soak lint environment vendor format

run: environment  ## start everything on this machine
	@exec $(BIN)/python manage.py up

worker: environment  ## one more host that trains: with DATABASE_URL, REDIS_URL and STORAGE_URL
	@exec $(BIN)/python manage.py worker

test: environment lint  ## what must hold, in minutes
	@$(BIN)/python tools/chromium.py
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

slow: environment  ## what takes long: real trainings, faults, whole starts
	@$(BIN)/python tools/chromium.py
	@$(BIN)/python -m pytest $(PARALLEL) -m slow

faults: environment  ## each kind of fault at 20 moments (TUNEBOARD_FAULT_SEED repeats a schedule)
	@TUNEBOARD_FAULT_MOMENTS=20 $(BIN)/python -m pytest tests/faults -m slow

soak: environment  ## fifty runs on four workers under random faults, 15 minutes (TUNEBOARD_SOAK_MINUTES)
	@$(BIN)/python tests/faults/soak.py

quick: environment  ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow and not browser"

lint: environment
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: environment
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

environment:
	@test -n "$(PYTHON)" || { echo "Tuneboard needs Python 3.11 or newer."; exit 1; }
	@$(PYTHON) tools/environment.py

vendor:  ## fetch the front-end libraries of static/vendor again, from their npm packages
	@$(PYTHON) tools/vendor.py
