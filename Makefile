# The one way to do things here. Works on a fresh clone with Python 3.11 or newer, a C compiler and make.
#
#   users        setup run demo test
#   developers   proto fmt lint type unit integration campaign sim mutants power-loss history perf docs check lock clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
READY := $(VENV)/.ready
SOURCES := dwd dwctl tools tests $(wildcard perf)
PYTEST := $(PY) -m pytest

.PHONY: help setup run demo test proto generated fmt fmt-check lint type contracts tidy unit integration campaign sim mutants power-loss history perf docs check lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv from the lock file

# Made anew only when the lock or the project's own description changed. pip checks every hash.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed (on Debian: apt-get install python3-venv)"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV), which takes a minute or two"
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	touch $(READY)

run: $(READY) ## six nodes in the foreground with a live view; data stays in ./data
	$(VENV)/bin/dwctl dev run --dir data

demo: $(READY) ## store real files on six nodes, kill two, lose nothing
	$(PY) perf/demo.py

# Tests that start real processes come second: they wait more than they work, so two clusters at a time, a file each.
test: $(READY) ## every test but the campaign
	$(PYTEST) -n 2 --dist worksteal -m "not integration and not campaign"
	$(PYTEST) -n 2 --dist loadfile -m "integration and not campaign"

proto: $(READY) ## generate dwd/pb from proto/
	$(PY) tools/protos.py

generated: $(READY)
	$(PY) tools/protos.py --check
	$(PY) tools/docs.py --check

fmt: $(READY) ## format
	$(PY) -m ruff format $(SOURCES)
	$(PY) -m ruff check --fix-only --quiet $(SOURCES)

fmt-check: $(READY)
	$(PY) -m ruff format --check --quiet $(SOURCES) || { echo "not formatted, run: make fmt"; $(PY) -m ruff format --check $(SOURCES); }

lint: $(READY) contracts tidy ## ruff, import contracts, size limits
	$(PY) -m ruff check $(SOURCES)

contracts: $(READY)
	$(VENV)/bin/lint-imports --no-cache

tidy: $(READY)
	$(PY) tools/tidy.py

type: $(READY) ## mypy --strict
	$(PY) -m mypy

unit: $(READY) ## unit tests only
	$(PYTEST) -n 2 --dist worksteal tests/unit

integration: $(READY) ## tests that start real daemons
	$(PYTEST) -n 2 --dist loadfile -m "integration and not campaign"

campaign: $(READY) ## the long ones: damaged disks, logs and databases, rude clients, lying devices
	$(PYTEST) -m campaign

SEEDS ?=
sim: $(READY) ## a simulated cluster under faults: seeds that failed once, then five minutes of fresh ones (or SEEDS=100000)
	$(PY) -m tests.sim.run $(if $(SEEDS),--seeds $(SEEDS))

MUTANTS ?=
mutants: $(READY) ## plant known bugs, one at a time: the simulator must find each (or only MUTANTS="name name")
	$(PY) -m tests.sim.mutate $(MUTANTS)

ROUNDS ?= 20
SEED ?= 1
power-loss: $(READY) ## cut the power of a real cluster ROUNDS times, from SEED on
	$(PY) -m tests.power_loss.campaign --rounds $(ROUNDS) --seed $(SEED)

MINUTES ?= 10
history: $(READY) ## clients against real daemons under faults for MINUTES, from SEED if given; checks linearizability
	$(PY) -m tests.history.run --minutes $(MINUTES) $(if $(filter file,$(origin SEED)),,--seed $(SEED))

perf: $(READY) ## measure a six-node cluster through S3 beside SeaweedFS and what disk and wire allow, consensus beside etcd and PySyncObj, snapshots, and what groups cost
	$(PY) perf/bench_store.py
	$(PY) perf/bench_slow_device.py
	$(PY) perf/bench_rebuild.py
	$(PY) perf/bench_consensus.py
	$(PY) perf/bench_snapshot.py
	$(PY) perf/bench_groups.py

docs: $(READY) ## write deploy/dwd.toml and docs/commands.md from the code
	$(PY) tools/docs.py

# Exactly what CI runs. The tests come last: their closing line ends the output.
check: $(READY) fmt-check lint type generated ## everything that must hold before a change lands
	@$(MAKE) --no-print-directory test

lock: ## resolve the dependencies anew into requirements.lock (UPGRADE=1 takes newer versions)
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/pip" install --quiet pip-tools && \
	"$$scratch/bin/python" tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove everything that make made (not ./data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
