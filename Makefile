# Two commands matter: `make run` and `make test`. Each does its own set-up.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
REPOSITORY = model_repository
DEMO = $(wildcard demo/*)
NATIVE = setup.py $(wildcard nanotriton/native/*.cpp nanotriton/native/*.h)

CHECKPOINT = demo
GPU_BUILD = build/gpu

.PHONY: run test lint gpu peers bench clean

run: $(REPOSITORY)/gpt/1/manifest.json  ## the demo model on a running Triton, one completion shown
	@PATH="$(BIN):$$PATH" REPOSITORY=$(REPOSITORY) sh demo/run.sh

test: $(VENV)/.test  ## the whole test suite
	@sh tests/services.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test  ## ruff, ruff format, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu: $(VENV)/.gpu  ## on a machine with an NVIDIA GPU: a plan of CHECKPOINT, its parity and speed
	$(BIN)/python -m export plan $(CHECKPOINT) --out $(GPU_BUILD)/work
	$(BIN)/python -m export parity $(GPU_BUILD)/work $(CHECKPOINT)
	$(BIN)/python -m export repository $(GPU_BUILD)/work --repository $(GPU_BUILD)/repository
	$(BIN)/python -m pytest tests/runners
	$(BIN)/python -m benchmarks steps --model-repository $(GPU_BUILD)/repository --rounds 100

peers: $(VENV)/.run  ## other engines on the same weights, each in its own environment
	$(BIN)/python -m benchmarks peers --install
	$(BIN)/python -m benchmarks peers --json peers.json

bench: $(REPOSITORY)/gpt/1/manifest.json $(VENV)/.bench  ## all measurements of serving, a report
	$(BIN)/python -m benchmarks bench --out bench

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

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.run
	$(PIP_INSTALL) -e '.[server,export,client,gateway,bench]'
	@touch $@

# TensorRT's package fetches its libraries from NVIDIA's index.
$(VENV)/.gpu: pyproject.toml constraints.txt | $(VENV)/.test
	$(PIP_INSTALL) -e '.[gpu]'
	@touch $@
