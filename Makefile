# Everything there is to do here. `make` alone prints the list.

PYTHON ?= python3
BASE_URL ?= http://127.0.0.1:8080
PYTEST_ARGS ?=
ARGS ?=
# How many processes run the tests. As these often wait for others, three are what keeps two processors busy.
WORKERS ?= 3
LOCUST_ARGS ?=
# A program that starts a MongoDB server, with mongod's options and --portFile; without one its tests are skipped.
MONGODB_SERVER ?=
# A program that makes a test cluster (`up`, `images`, `env`, `build -t NAME`). Without one KUBECONFIG says which cluster
# is meant, and docker and kind build the image and load it.
CLUSTER_KIT ?=
IMAGE ?= meshmart:0.1.0
KIND_CLUSTER ?= meshmart
# none, istio or linkerd
MESH ?= none
# The folder of a bundle: everything comes from there, and nothing from the network (docs/bundle.md).
BUNDLE ?=
STUDENTS ?= 12
# 1: with Jaeger, Prometheus and Grafana, in Istio with Kiali (docs/observability.md)
OBSERVABILITY ?=

VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(sort $(wildcard services/pb/*.proto))
CODE := services tests tools loadtest helm labs mesh classroom

# Pyright comes whole in its wheel: no look-up of newer releases, and the Node.js of the lock, not the machine's.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_GLOBAL_NODE := off
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

ifdef BUNDLE
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(abspath $(BUNDLE))/wheels
export PATH := $(abspath $(BUNDLE))/bin/$(shell uname -s)-$(shell uname -m):$(PATH)
endif

export MESHMART_TEST_MONGODB_SERVER := $(abspath $(MONGODB_SERVER))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-unit test-contract test-shop test-browser test-long chaos soak amplification backlog alerts \
	up down preflight bundle image test-cluster test-mesh lab test-labs class class-board class-down certificate mesh compose observability goldens bench-install bench-mesh sbom audit wheels check format proto proto-check lock lock-check load load-check bench-start diagram screenshots clean

help:
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z][a-z -]*:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The shop

run: $(VENV)/.runtime  ## The whole shop on this machine; Ctrl-C stops it. Options: make run ARGS=--help
	@exec $(BIN)/python -m services $(ARGS)

bench-start: $(VENV)/.test  ## How fast the shop starts and how much memory it holds
	@$(BIN)/python tools/bench_start.py

locust = $(BIN)/locust --config loadtest/locust.conf

load: $(VENV)/.load  ## Load on BASE_URL (default: the shop of `make run`); fails when a threshold is missed
	@$(locust) --host $(BASE_URL) $(LOCUST_ARGS)

# Status 1 is what a missed threshold gives, and the verdict must name the one that nothing can meet.
load-check: $(VENV)/.runtime $(VENV)/.load  ## A short load on a shop of its own, its metrics, and that a missed threshold fails it
	@$(BIN)/python tools/with_shop.py -- sh -ec '\
		short="$(locust) --host $$BASE_URL --users 8 --think-seconds 0.2"; \
		LOCUST_METRICS_PORT=9646 $$short --run-time 6s --min-requests 50 --min-confirmed-orders 1 & run=$$!; \
		until curl -sf http://127.0.0.1:9646/metrics | grep -q "^meshmart_load_requests_total{name="; \
		do kill -0 $$run; sleep 0.2; done; \
		wait $$run; \
		status=0; verdict=$$($$short --run-time 2s --min-requests 1000000 2>/dev/null) || status=$$?; \
		test $$status = 1; \
		echo "$$verdict" | grep "^requests .* MISSED"'

diagram: $(VENV)/.runtime  ## The call graph in docs/architecture.md, from topology.yaml
	@$(BIN)/python tools/diagram.py

screenshots: $(VENV)/.test  ## The pictures in the README and in docs/screenshots, taken again
	@$(BIN)/python -m tools.screenshots

##@ Tests and checks

# A file's tests share shops and stay together; the files with the longest ones come first. PYTEST_ARGS=-n0 runs all in
# one process, as `python -m pytest` does.
pytest = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

coverage = $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

test: $(VENV)/.test  ## The quick tests: those of the parts, not of whole shops (COVERAGE=1; PYTEST_ARGS='-k cart'; make test-unit, test-contract)
	@$(pytest) --ignore tests/shop --ignore tests/browser $(coverage) $(PYTEST_ARGS)

test-shop: ## Whole shops: bought from, attacked, killed, restored
test-browser: ## Their pages in a real browser

# One folder of tests: test-unit runs tests/unit.
test-unit test-contract test-shop test-browser: test-%: $(VENV)/.test
	@$(pytest) tests/$* $(PYTEST_ARGS)

test-all: test test-shop test-browser  ## All that needs no cluster and no quarter of an hour: before a change lands

# Without a SEED one is drawn, and printed.
chaos: $(VENV)/.test  ## Buys while everything goes wrong, then checks every order (CHECKOUTS=2000 CLIENTS=16 SEED= STORE=sqlite)
	@$(BIN)/python -m tests.chaos --checkouts $(or $(CHECKOUTS),2000) --clients $(or $(CLIENTS),16) \
		$(if $(SEED),--seed $(SEED)) --store $(or $(STORE),sqlite) $(if $(MONGODB_SERVER),--mongodb-server $(MONGODB_SERVER))

test-long: $(VENV)/.test  ## What takes a quarter of an hour: short chaos runs on both stores, a missing safeguard, an outage, a backlog (CHECKOUTS=2000)
	@$(BIN)/python -m pytest -m "long and not cluster" --checkouts $(or $(CHECKOUTS),2000) $(PYTEST_ARGS)

soak: $(VENV)/.test  ## An hour (MINUTES=60) at half of what the shop can do: does anything grow?
	@$(BIN)/python -m tests.endurance.soak --minutes $(or $(MINUTES),60)

amplification: $(VENV)/.test  ## Each service away in turn: how many requests reach its neighbours
	@$(BIN)/python -m tests.endurance.amplification

backlog: $(VENV)/.test  ## How long the shop takes to finish 2,000 orders that an outage has left
	@$(BIN)/python -m tests.endurance.backlog

alerts: $(VENV)/.test  ## Lets things go wrong before a Prometheus (on the PATH): do their alerts fire, those alone, and resolve? (PACE=1)
	@$(BIN)/python -m tests.endurance.alerts --pace $(or $(PACE),1)

check: $(VENV)/.check proto-check lock-check  ## All static checks: format, lint, types, architecture, drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/diagram.py --check
	$(BIN)/python -m tools.mesh --check
	$(BIN)/python -m tools.compose --check
	$(BIN)/python -m tools.observability --check
	$(BIN)/pyright

format: $(VENV)/.check  ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

##@ On Kubernetes

preflight:  ## What this machine lacks for `make up` (MESH= OBSERVABILITY=1 BUNDLE=DIR)
	@$(PYTHON) -m tools.preflight --name $(KIND_CLUSTER) $(options)

# What is wanted, for `up` and `preflight`.
options = --mesh $(MESH) $(if $(OBSERVABILITY),--observability) $(if $(BUNDLE),--bundle $(BUNDLE))

up: $(VENV)/.runtime  ## A kind cluster with the shop in it: http://127.0.0.1:8080 (MESH=istio or linkerd: with that mesh; OBSERVABILITY=1; BUNDLE=DIR: without a network)
	@$(BIN)/python -m tools.kind up --name $(KIND_CLUSTER) --image $(IMAGE) $(options)

bundle: $(VENV)/.runtime  ## All that `make up` and the labs take from the network, in one archive (docs/bundle.md; ARGS=--help)
	@rm -rf build/bundle
	@$(BIN)/python -m tools.bundle make $(ARGS)

down: $(VENV)/.runtime  ## Remove that cluster
	@$(BIN)/python -m tools.kind down --name $(KIND_CLUSTER)

# The commands that need a cluster find it in $(cluster).
ifdef CLUSTER_KIT
cluster = eval "$$($(CLUSTER_KIT) env)"
image:
	@$(CLUSTER_KIT) up && $(CLUSTER_KIT) images
	@$(CLUSTER_KIT) build --quiet -t $(IMAGE) --build-arg PYTHON_VERSION=3.11 .
else
cluster = true
image:  ## Build the image and load it into the kind cluster
	@docker build --quiet --tag $(IMAGE) --build-arg REVISION=$$(git rev-parse HEAD) .
	@kind load docker-image $(IMAGE) --name $(KIND_CLUSTER)
endif

test-cluster: $(VENV)/.test image  ## The tests on the cluster that KUBECONFIG points at; they install the shop and remove it
	@$(cluster); MESHMART_CLUSTER_IMAGE=$(IMAGE) $(BIN)/python -m pytest -m cluster tests/cluster $(PYTEST_ARGS)

# What is about a mesh is about Istio unless another one is named.
ITS_MESH := $(MESH:none=istio)
# The kit has Istio; Linkerd is in the cluster or it is not.
mesh_cluster = $(cluster); $(if $(filter istio,$(ITS_MESH)),$(if $(CLUSTER_KIT),$(CLUSTER_KIT) istio -f mesh/istio/install.yaml;))

test-mesh: $(VENV)/.test image  ## The tests of a mesh on that cluster, with the mesh in it (MESH=istio LONG=). LONG=1: half an hour more
	@$(mesh_cluster) MESHMART_CLUSTER_IMAGE=$(IMAGE) \
		$(BIN)/python -m pytest -m "$(if $(LONG),cluster,cluster and not long)" tests/mesh --mesh $(ITS_MESH) $(PYTEST_ARGS)

lab: $(VENV)/.runtime  ## The labs: make lab ARGS="start 00"; then check, hint, solve, reset, progress (labs/README.md)
	@$(cluster) && $(BIN)/python -m labs $(ARGS)

test-labs: $(VENV)/.test image  ## The labs in a mesh, with students' mistakes, and a class (MESH=istio). HALF=even or odd: those labs, a quarter of an hour
	@$(mesh_cluster) MESHMART_CLUSTER_IMAGE=$(IMAGE) \
		$(BIN)/python -m pytest -m cluster tests/labs --mesh $(ITS_MESH) $(if $(HALF),--half $(HALF)) $(PYTEST_ARGS)

class: $(VENV)/.runtime  ## A class: a namespace, a kubeconfig file and a shop each (STUDENTS=12 MESH=istio); docs/classroom.md
	@$(cluster); $(BIN)/python -m classroom up --students $(STUDENTS) --mesh $(ITS_MESH) --image $(IMAGE) $(ARGS)

class-board: $(VENV)/.runtime  ## Who is where, and what the last check said: http://127.0.0.1:8765/?live
	@$(cluster); $(BIN)/python -m classroom board $(ARGS)

class-down: $(VENV)/.runtime  ## Take the class away
	@$(cluster); $(BIN)/python -m classroom down $(ARGS)

certificate: $(VENV)/.runtime  ## A certificate for https://ecommerce.example.com, for trying, into the cluster (MESH=istio)
	@$(cluster); $(BIN)/python tools/certificate.py $(ITS_MESH) $(ARGS) | kubectl apply -f -

goldens: $(VENV)/.test  ## The manifests in tests/cluster/goldens, after a change of the chart
	@$(cluster); $(BIN)/python -m tests.cluster.test_goldens

bench-install: $(VENV)/.test image  ## From `helm install` to a paid order: how long, and what the shop takes
	@$(cluster); MESHMART_CLUSTER_IMAGE=$(IMAGE) $(BIN)/python -m tools.bench_install

bench-mesh: $(VENV)/.test image  ## What a mesh costs: two shops side by side, one in the mesh (MESH=istio)
	@$(mesh_cluster) MESHMART_CLUSTER_IMAGE=$(IMAGE) $(BIN)/python -m tools.bench_mesh --mesh $(ITS_MESH)

##@ What is generated

sbom: $(VENV)/.check  ## The software bill of materials (CycloneDX) of the image's packages: build/sbom.json
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-format JSON --output-file build/sbom.json
	@echo build/sbom.json

audit: $(VENV)/.check  ## Known vulnerabilities of the image's packages (asks a public database)
	@$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip

wheels: $(VENV)/.runtime  ## Whether the image can be built for arm64: a wheel of every package (asks the package index)
	@$(BIN)/python -m tools.wheels --machine aarch64

# protoc finds its typing plug-ins on the PATH. `only_async`: the shop has no synchronous gRPC.
protoc = export PATH="$(CURDIR)/$(BIN):$$PATH" \
	&& python -m grpc_tools.protoc -I. --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) \
	&& python -m grpc_tools.protoc -I. --grpc_python_out=$(1) --mypy_grpc_out=quiet,only_async:$(1) \
		$$(grep -l '^service ' $(PROTOS))

mesh: $(VENV)/.runtime  ## The manifests in mesh/ that follow from topology.yaml
	@$(BIN)/python -m tools.mesh

compose: $(VENV)/.runtime  ## compose.yaml, from topology.yaml
	@$(BIN)/python -m tools.compose

observability: $(VENV)/.check  ## Grafana's dashboards, and the settings of Jaeger and Prometheus, from topology.yaml
	@$(BIN)/python -m tools.observability

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
# so a later step only adds. A lock names everything: nothing is left to resolve, and pip's resolver, which holds
# `name` and `name[extra]` for two things, would take a newer release for one of them.
$(VENV)/.runtime: requirements.lock
$(VENV)/.test: requirements-test.lock
$(VENV)/.load: requirements-load.lock
$(VENV)/.check: requirements-check.lock
$(VENV)/.runtime $(VENV)/.test $(VENV)/.load $(VENV)/.check: | $(VENV)/.created
	@echo "Installing $< into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --only-binary :all: -r $<
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d: make PYTHON=..." \
		% sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

clean:  ## Remove what can be made again: environment, caches, builds (the shop's data in .data stays)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage*
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
