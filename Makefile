# All commands of the project. `make` without a target prints them.

PYTHON ?= python3
BASE_URL ?= http://127.0.0.1:8080
PYTEST_ARGS ?=
ARGS ?=
# How many processes run the tests, or how many pods send load. Tests often wait, so three processes keep two CPUs busy.
WORKERS ?= 3
LOCUST_ARGS ?=
# A program that starts a MongoDB server, with mongod's options and --portFile; without one its tests are skipped.
MONGODB_SERVER ?=
# A program that makes a test cluster (`up`, `images`, `env`, `build -t NAME`). Without one, the cluster is that of KUBECONFIG, docker builds the
# image, and kind loads it.
CLUSTER_KIT ?=
IMAGE ?= meshmart:0.1.0
LOAD_IMAGE ?= meshmart-load:0.1.0
KIND_CLUSTER ?= meshmart
# none, istio or linkerd
MESH ?= none
# The folder of a bundle, from which everything is installed without a network (docs/bundle.md).
BUNDLE ?=
STUDENTS ?= 12
# 1 adds Jaeger, Prometheus and Grafana, and in Istio Kiali (docs/observability.md)
OBSERVABILITY ?=

VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(sort $(wildcard services/pb/*.proto))
CODE := services stand_ins tests tools loadtest helm labs mesh classroom

# Pyright's wheel is complete: do not look for newer releases, and use the Node.js of the lock, not the machine's.
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
	up down preflight bundle image load-image test-cluster test-mesh lab test-labs class class-board class-down certificate mesh compose observability goldens bench bench-check bench-growth bench-install bench-mesh sbom audit wheels check format proto proto-check lock lock-check load load-check load-cluster load-compare load-overload bench-start diagram screenshots clean

help:
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z][a-z -]*:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The shop

run: $(VENV)/.runtime  ## Start the shop on this machine; Ctrl-C stops it. Options: make run ARGS=--help
	@exec $(BIN)/python -m services $(ARGS)

bench-start: $(VENV)/.test  ## Measure how fast the shop starts, and its memory
	@$(BIN)/python -m tests.bench.start

bench: $(VENV)/.test  ## Measure what each page and an order cost, beside bare handlers, and write docs/performance.md (ARGS=--help)
	@$(BIN)/python -m tests.bench.performance $(ARGS)

bench-check: $(VENV)/.test  ## Check that no page has become slower, compared with bare handlers: a minute (ARGS=--help)
	@$(BIN)/python -m tests.bench.check $(ARGS)

bench-growth: $(VENV)/.test  ## Measure how cost grows with products, stored orders and replicas, and write docs/performance.md (ARGS=--help)
	@$(BIN)/python -m tests.bench.growth $(ARGS)

# The options of `make load` as options of locust (loadtest/README.md).
load_options = $(if $(SHAPE),--shape $(SHAPE)) $(if $(USERS),--users $(USERS)) $(if $(RATE),--arrivals-per-second $(RATE)) \
	$(if $(DURATION),--run-time $(DURATION)) $(if $(PROCESSES),--processes $(PROCESSES)) $(if $(LABEL),--label "$(LABEL)") \
	$(if $(JOURNEYS),--journeys $(JOURNEYS)) $(if $(THRESHOLDS),--thresholds $(THRESHOLDS)) $(LOCUST_ARGS) $(SHOPPERS)

load: $(VENV)/.load  ## Send load to BASE_URL (default: the shop of `make run`); fails if a threshold is missed (SHAPE=steps USERS=20 RATE= DURATION=30s PROCESSES= UI=1)
	@$(BIN)/locust --config loadtest/locust.conf --host $(BASE_URL) $(if $(UI),--headful --web-host 127.0.0.1) $(load_options)

load-compare: $(VENV)/.runtime  ## Compare two runs of `make load` in a table and in pictures (BEFORE= AFTER=: folders in build/load)
	@$(BIN)/python -m loadtest.compare $(BEFORE) $(AFTER) $(ARGS)

load-overload: $(VENV)/.load  ## Find the knee of the shop at BASE_URL, send twice that load, and check that it refuses fast and recovers (RATE=20: where to look at most)
	@$(BIN)/python -m loadtest.overload --base-url $(BASE_URL) $(if $(RATE),--rate $(RATE)) $(ARGS)

load-check: $(VENV)/.runtime $(VENV)/.load  ## Check the load test: each shape, arrival rates, gRPC, missed thresholds, reports, for seconds each
	@$(BIN)/python tools/with_shop.py -- $(BIN)/python -m loadtest.check

diagram: $(VENV)/.runtime  ## Generate the call graph in docs/architecture.md from topology.yaml
	@$(BIN)/python tools/diagram.py

screenshots: $(VENV)/.test  ## Take the pictures in the README and in docs/screenshots again
	@$(BIN)/python -m tests.browser.screenshots

##@ Tests and checks

# The tests of a file share shops, so they stay together; the files with the longest tests run first. PYTEST_ARGS=-n0 runs all tests in one
# process, as `python -m pytest` does.
pytest = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

coverage = $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

test: $(VENV)/.test  ## Run the quick tests, without whole shops (COVERAGE=1; PYTEST_ARGS='-k cart'; make test-unit, test-contract)
	@$(pytest) --ignore tests/shop --ignore tests/browser $(coverage) $(PYTEST_ARGS)

# The test of docs/new-service.md runs static checks.
test-shop: $(VENV)/.check  ## Test whole shops: buy, attack, kill, restore
test-browser: ## Test the pages in a real browser

# One folder of tests: test-unit runs tests/unit.
test-unit test-contract test-shop test-browser: test-%: $(VENV)/.test
	@$(pytest) tests/$* $(PYTEST_ARGS)

test-all: test test-shop test-browser  ## Run all tests that need neither a cluster nor a quarter of an hour: before a change is merged

# Without SEED the run picks a seed, and prints it.
chaos: $(VENV)/.test  ## Buy while faults are injected, then check every order (CHECKOUTS=2000 CLIENTS=16 SEED= STORE=sqlite)
	@$(BIN)/python -m tests.chaos --checkouts $(or $(CHECKOUTS),2000) --clients $(or $(CLIENTS),16) \
		$(if $(SEED),--seed $(SEED)) --store $(or $(STORE),sqlite) $(if $(MONGODB_SERVER),--mongodb-server $(MONGODB_SERVER))

test-long: $(VENV)/.test  ## Run the tests that take a quarter of an hour: chaos on both stores, a missing safeguard, an outage, a backlog (CHECKOUTS=2000). PART=1/2: both chaos runs, and half of the others
	@$(BIN)/python -m pytest -m "long and not cluster" --checkouts $(or $(CHECKOUTS),2000) $(if $(PART),--part $(PART)) $(PYTEST_ARGS)

soak: $(VENV)/.test  ## Run for an hour (MINUTES=60) at half load, and check that nothing grows
	@$(BIN)/python -m tests.endurance.soak --minutes $(or $(MINUTES),60)

amplification: $(VENV)/.test  ## Stop each service in turn, and count the requests to its neighbours
	@$(BIN)/python -m tests.endurance.amplification

backlog: $(VENV)/.test  ## Measure how long 2,000 orders take after an outage
	@$(BIN)/python -m tests.endurance.backlog

alerts: $(VENV)/.test  ## Test the alerts: inject faults, and check the alerts of a Prometheus (on the PATH; PACE=1)
	@$(BIN)/python -m tests.endurance.alerts --pace $(or $(PACE),1)

check: $(VENV)/.check proto-check lock-check  ## Run all static checks: format, lint, types, architecture, drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/diagram.py --check
	$(BIN)/python -m tools.mesh --check
	$(BIN)/python -m tools.compose --check
	$(BIN)/python -m tools.observability --check
	$(BIN)/pyright

format: $(VENV)/.check  ## Format the code, and fix what the linter can fix
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

##@ On Kubernetes

preflight:  ## Print what this machine lacks for `make up` (MESH= OBSERVABILITY=1 BUNDLE=DIR)
	@$(PYTHON) -m tools.preflight --name $(KIND_CLUSTER) $(options)

# The options of `up` and `preflight`.
options = --mesh $(MESH) $(if $(OBSERVABILITY),--observability) $(if $(BUNDLE),--bundle $(BUNDLE))

up: $(VENV)/.runtime  ## Make a kind cluster with the shop: http://127.0.0.1:8080 (MESH=istio or linkerd; OBSERVABILITY=1; BUNDLE=DIR: without a network)
	@$(BIN)/python -m tools.kind up --name $(KIND_CLUSTER) --image $(IMAGE) $(options)

bundle: $(VENV)/.runtime  ## Write an archive with all downloads of `make up` and the labs (docs/bundle.md; ARGS=--help)
	@rm -rf build/bundle
	@$(BIN)/python -m tools.bundle make $(ARGS)

down: $(VENV)/.runtime  ## Remove that cluster
	@$(BIN)/python -m tools.kind down --name $(KIND_CLUSTER)

# $(cluster) selects the cluster for commands that need one.
ifdef CLUSTER_KIT
cluster = eval "$$($(CLUSTER_KIT) env)"
image:
	@$(CLUSTER_KIT) up && $(CLUSTER_KIT) images
	@$(CLUSTER_KIT) build --quiet -t $(IMAGE) --build-arg PYTHON_VERSION=3.11 .
load-image:
	@$(CLUSTER_KIT) up
	@$(CLUSTER_KIT) build --quiet -t $(LOAD_IMAGE) --target load --build-arg PYTHON_VERSION=3.11 .
else
cluster = true
image:  ## Build the image and load it into the kind cluster
	@docker build --quiet --tag $(IMAGE) --build-arg REVISION=$$(git rev-parse HEAD) .
	@kind load docker-image $(IMAGE) --name $(KIND_CLUSTER)
load-image:
	@docker build --quiet --tag $(LOAD_IMAGE) --target load .
	@kind load docker-image $(LOAD_IMAGE) --name $(KIND_CLUSTER)
endif

load-cluster: $(VENV)/.runtime load-image  ## Send load to the shop in the cluster, from a Job there (MESH=istio WORKERS=4 SHAPE= RATE= …; ARGS=--meshed: with proxies)
	@$(cluster); $(BIN)/python -m tools.load_cluster --mesh $(MESH) --workers $(WORKERS) --image $(LOAD_IMAGE) $(ARGS) $(load_options)

test-cluster: $(VENV)/.test image  ## Run the tests on the cluster of KUBECONFIG; they install the shop and remove it
	@$(cluster); MESHMART_CLUSTER_IMAGE=$(IMAGE) $(BIN)/python -m pytest -m cluster tests/cluster $(PYTEST_ARGS)

# Targets that need a mesh use Istio by default.
ITS_MESH := $(MESH:none=istio)
# The kit can install Istio, but not Linkerd.
mesh_cluster = $(cluster); $(if $(filter istio,$(ITS_MESH)),$(if $(CLUSTER_KIT),$(CLUSTER_KIT) istio -f mesh/istio/install.yaml;))

test-mesh: $(VENV)/.test image  ## Run the tests of a mesh on that cluster, which must have the mesh (MESH=istio; LONG=1: half an hour more)
	@$(mesh_cluster) MESHMART_CLUSTER_IMAGE=$(IMAGE) \
		$(BIN)/python -m pytest -m "$(if $(LONG),cluster,cluster and not long)" tests/mesh --mesh $(ITS_MESH) $(PYTEST_ARGS)

lab: $(VENV)/.runtime  ## Do the labs: make lab ARGS="start 00"; then check, hint, solve, reset, progress (labs/README.md)
	@$(cluster) && $(BIN)/python -m labs $(ARGS)

test-labs: $(VENV)/.test image  ## Test the labs in a mesh, with students' mistakes, and a class (MESH=istio). PART=2/8: only the second of eight parts of the labs, without the rest
	@$(mesh_cluster) MESHMART_CLUSTER_IMAGE=$(IMAGE) \
		$(BIN)/python -m pytest -m "cluster$(if $(PART), and in_turn)" tests/labs --mesh $(ITS_MESH) $(if $(PART),--part $(PART)) $(PYTEST_ARGS)

class: $(VENV)/.runtime  ## Make a namespace, a shop and a kubeconfig file for each student (STUDENTS=12 MESH=istio; docs/classroom.md)
	@$(cluster); $(BIN)/python -m classroom up --students $(STUDENTS) --mesh $(ITS_MESH) --image $(IMAGE) $(ARGS)

class-board: $(VENV)/.runtime  ## Show each student's lab and last check: http://127.0.0.1:8765/?live
	@$(cluster); $(BIN)/python -m classroom board $(ARGS)

class-down: $(VENV)/.runtime  ## Remove the class
	@$(cluster); $(BIN)/python -m classroom down $(ARGS)

certificate: $(VENV)/.runtime  ## Make a test certificate for https://ecommerce.example.com in the cluster (MESH=istio)
	@$(cluster); $(BIN)/python tools/certificate.py $(ITS_MESH) $(ARGS) | kubectl apply -f -

goldens: $(VENV)/.test  ## Generate the manifests in tests/cluster/goldens, after a change of the chart
	@$(cluster); $(BIN)/python -m tests.cluster.test_goldens

bench-install: $(VENV)/.test image  ## Measure the time from `helm install` to a paid order, and the shop's memory
	@$(cluster); MESHMART_CLUSTER_IMAGE=$(IMAGE) $(BIN)/python -m tests.bench.install

bench-mesh: $(VENV)/.test image  ## Measure what a mesh costs: two shops, one in the mesh (MESH=istio)
	@$(mesh_cluster) MESHMART_CLUSTER_IMAGE=$(IMAGE) $(BIN)/python -m tests.bench.mesh --mesh $(ITS_MESH)

##@ Generated files and dependencies

sbom: $(VENV)/.check  ## Write the bill of materials (CycloneDX) of the image's packages: build/sbom.json
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-format JSON --output-file build/sbom.json
	@echo build/sbom.json

audit: $(VENV)/.check  ## Check the image's packages for known vulnerabilities (in a public database)
	@$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip

wheels: $(VENV)/.runtime  ## Check that every package of the image has a wheel for arm64 (in the package index)
	@$(BIN)/python -m tools.wheels --machine aarch64

# protoc finds its typing plug-ins on the PATH. `only_async`: the shop uses no synchronous gRPC.
protoc = export PATH="$(CURDIR)/$(BIN):$$PATH" \
	&& python -m grpc_tools.protoc -I. --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) \
	&& python -m grpc_tools.protoc -I. --grpc_python_out=$(1) --mypy_grpc_out=quiet,only_async:$(1) \
		$$(grep -l '^service ' $(PROTOS))

mesh: $(VENV)/.runtime  ## Generate the manifests in mesh/ that depend on topology.yaml
	@$(BIN)/python -m tools.mesh

compose: $(VENV)/.runtime  ## Generate compose.yaml from topology.yaml
	@$(BIN)/python -m tools.compose

observability: $(VENV)/.check  ## Generate Grafana's dashboards, and settings of Jaeger and Prometheus, from topology.yaml
	@$(BIN)/python -m tools.observability

proto: $(VENV)/.check  ## Generate the Python code of services/pb/*.proto
	rm -f services/pb/*_pb2.py services/pb/*_pb2.pyi services/pb/*_pb2_grpc.py services/pb/*_pb2_grpc.pyi
	@$(call protoc,.)

proto-check: $(VENV)/.check
	@rm -rf build/proto && mkdir -p build/proto && $(call protoc,build/proto)
	@diff -r -x '*.proto' -x __init__.py -x __pycache__ services/pb build/proto/services/pb \
		|| { echo 'services/pb: the generated code is not that of the protos; run "make proto".' >&2; exit 1; }

lock: $(VENV)/.check  ## Generate the requirements locks, after a change of pyproject.toml (UPGRADE=1: the newest releases)
	$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

lock-check: $(VENV)/.check
	@$(BIN)/python tools/lock.py --check

##@ Environment

# One virtual environment, with the packages that the target needs. The locks agree with each other (tools/lock.py), so a later step only adds
# packages. A lock names all packages, so nothing is left to resolve. pip's resolver treats `name` and `name[extra]` as two packages, and would
# install a newer release for one of them.
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

clean:  ## Remove what can be generated again: environment, caches, builds (the shop's data in .data stays)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage*
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
