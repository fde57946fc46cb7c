# Everything there is to do here. `make` alone prints the list.

PYTHON ?= python3
BASE_URL ?= http://127.0.0.1:8080
PYTEST_ARGS ?=
LOCUST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(sort $(wildcard services/pb/*.proto))
CODE := services tests tools loadtest

# Pyright comes whole in its wheel: no look-up of newer releases, and the Node.js of the lock, not the machine's.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_GLOBAL_NODE := off
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-unit test-contract test-shop test-browser check format proto proto-check \
	lock lock-check load load-check bench-start diagram screenshots clean

help:
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z][a-z -]*:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The shop

run: $(VENV)/.runtime  ## The whole shop on this machine; Ctrl-C stops it. More options: .venv/bin/python -m services --help
	@exec $(BIN)/python -m services

bench-start: $(VENV)/.test  ## How fast the shop starts and how much memory it holds
	@$(BIN)/python tools/bench_start.py

locust = $(BIN)/locust --config loadtest/locust.conf

load: $(VENV)/.load  ## Load on BASE_URL (default: the shop of `make run`); fails when a threshold is missed
	@$(locust) --host $(BASE_URL) $(LOCUST_ARGS)

# Status 1 is what a missed threshold gives, and the verdict must name the one that nothing can meet.
load-check: $(VENV)/.runtime $(VENV)/.load  ## A short load on a shop of its own, and that a missed threshold fails it
	@$(BIN)/python tools/with_shop.py -- sh -ec '\
		short="$(locust) --host $$BASE_URL --users 8 --think-seconds 0.2"; \
		$$short --run-time 6s --min-requests 50 --min-confirmed-orders 1; \
		status=0; verdict=$$($$short --run-time 2s --min-requests 1000000 2>/dev/null) || status=$$?; \
		test $$status = 1; \
		echo "$$verdict" | grep "^requests .* MISSED"'

diagram: $(VENV)/.runtime  ## The call graph in the README, from topology.yaml
	@$(BIN)/python tools/diagram.py

screenshots: $(VENV)/.test  ## The pictures in the README, made anew
	@$(BIN)/python -m tools.screenshots

##@ Tests and checks

test: $(VENV)/.test  ## All tests. Less: make test-unit, -contract, -shop, -browser, or PYTEST_ARGS='-k cart'. COVERAGE=1 measures it
	@$(BIN)/python -m pytest $(if $(COVERAGE),--cov --cov-report=term:skip-covered) $(PYTEST_ARGS)

# One folder of tests: test-unit runs tests/unit.
test-unit test-contract test-shop test-browser: test-%: $(VENV)/.test
	@$(BIN)/python -m pytest tests/$* $(PYTEST_ARGS)

check: $(VENV)/.check proto-check lock-check  ## All static checks: format, lint, types, architecture, drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/diagram.py --check
	$(BIN)/pyright

format: $(VENV)/.check  ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

##@ What is generated

# protoc finds its typing plug-ins on the PATH. `only_async`: the shop has no synchronous gRPC.
protoc = export PATH="$(CURDIR)/$(BIN):$$PATH" \
	&& python -m grpc_tools.protoc -I. --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) \
	&& python -m grpc_tools.protoc -I. --grpc_python_out=$(1) --mypy_grpc_out=quiet,only_async:$(1) \
		$$(grep -l '^service ' $(PROTOS))

proto: $(VENV)/.check  ## The Python code of services/pb/*.proto
	rm -f services/pb/*_pb2.py services/pb/*_pb2.pyi services/pb/*_pb2_grpc.py services/pb/*_pb2_grpc.pyi
	@$(call protoc,.)

proto-check: $(VENV)/.check
	@rm -rf build/proto && mkdir -p build/proto && $(call protoc,build/proto)
	@diff -r -x '*.proto' -x __init__.py -x __pycache__ services/pb build/proto/services/pb \
		|| { echo 'services/pb: the generated code is not that of the protos; run "make proto".' >&2; exit 1; }

lock: $(VENV)/.check  ## The requirements locks, after a change of pyproject.toml (UPGRADE=1: the newest releases)
	$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

lock-check: $(VENV)/.check
	@$(BIN)/python tools/lock.py --check

##@ Environment

# One virtual environment, filled as far as the goal needs it. The locks agree with each other (tools/lock.py),
# so a later step only adds.
$(VENV)/.runtime: requirements.lock
$(VENV)/.test: requirements-test.lock
$(VENV)/.load: requirements-load.lock
$(VENV)/.check: requirements-check.lock
$(VENV)/.runtime $(VENV)/.test $(VENV)/.load $(VENV)/.check: | $(VENV)/.created
	@echo "Installing $< into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r $<
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d: make PYTHON=..." \
		% sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

clean:  ## Remove what can be made again: environment, caches, builds (the shop's data in .data stays)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage*
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
