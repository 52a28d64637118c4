# Posthouse: two commands do everything. `make run` runs it, `make test` tests it.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Some servers run only as root, each in a root file system of its own.
NOT_HERE := $(if $(filter 0,$(shell id -u)),,and not rooted)
# Test processes side by side, each with servers of its own. Most of their time is waiting.
WORKERS ?= 4
INSTALL := $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup run check test protections servers-check pictures image image-check unit bench storm drill fuzz fuzz-api fuzz-facts fuzz-reader unit-image format lock audit clean servers

help: ## what can be made here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.run ## the virtual environment with what `make run` needs

$(UV): requirements/installer.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.run: requirements/run.lock pyproject.toml sdk/pyproject.toml | $(UV)
	$(INSTALL) --require-hashes -r requirements/run.lock
	$(INSTALL) --no-deps --no-build-isolation -e sdk -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.run
	$(INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

# checkov brings a hundred packages of its own, so it lives apart.
$(VENV)/.policy: requirements/policy.lock $(VENV)/.dev
	$(PYTHON) -m venv $(VENV)/policy
	$(UV) pip install --quiet --python $(VENV)/policy/bin/python --require-hashes -r requirements/policy.lock
	@touch $@

run: $(VENV)/.run ## everything on this machine, with a demo mailbox (Ctrl-C stops it)
	$(BIN)/posthouse up --demo $(ARGS)

check: $(VENV)/.dev ## format, lint, types, import contracts, what is in the tree
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 0 -p no:cacheprovider tests/unit/test_tree.py tests/unit/test_contributing.py

servers: ## the servers that the tests talk to (Debian packages), where they are missing
	tests/servers/install.sh

test: $(VENV)/.dev $(VENV)/.policy servers ## all tests, against real servers that the session starts itself
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long and not image $(NOT_HERE)" \
		-o cache_dir=.pytest_cache/all --cache-clear $(ARGS) || $(BIN)/python -m tests.alone $$?

servers-check: $(VENV)/.dev servers ## the long suites, over every mail server: about an hour
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "long $(NOT_HERE)" $(ARGS)

protections: $(VENV)/.dev servers ## removes each protection of tests/protections, whose tests must fail: NAMES="fetcher …"
	$(BIN)/python -m tests.protections $(NAMES) $(ARGS)

pictures: $(VENV)/.dev servers ## pictures of every page, with 1,000 connections of hostile names, in .pictures
	PICTURES=.pictures $(BIN)/python -m pytest -n 0 -m long tests/e2e/test_pictures.py $(ARGS)

image: ## the image to roll out: make image BASE=python:3.13-slim-bookworm@sha256:… TAG=REGISTRY/posthouse:0.1.0
	BASE="$(BASE)" TAG="$(TAG)" deploy/image/build.sh

image-check: $(VENV)/.dev servers ## build the container image and test it, on a Docker engine of its own
	deploy/image/check.sh $(ARGS)

unit: $(VENV)/.dev ## the tests that need no server
	$(BIN)/python -m pytest tests/unit $(ARGS)

unit-image: $(VENV)/.dev ## the unit tests on the image's Python, where it is here
	tests/on_image_python.sh tests/unit $(ARGS)

.fuzz/.ready: requirements/run.lock requirements/fuzz.lock | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .fuzz
	$(UV) pip install --quiet --python .fuzz/bin/python --require-hashes -r requirements/run.lock
	$(UV) pip install --quiet --python .fuzz/bin/python --require-hashes -r requirements/fuzz.lock
	$(UV) pip install --quiet --python .fuzz/bin/python --no-deps --no-build-isolation -e sdk -e .
	@touch $@

fuzz-reader: .fuzz/.ready ## hostile mails, guided by coverage, at the reader: make fuzz-reader MINUTES=10
	.fuzz/bin/python tests/fuzz/mail_fuzz.py .fuzz/mail -max_total_time=$$(( $(or $(MINUTES),10) * 60 )) \
		-timeout=30 -rss_limit_mb=400 -max_len=60000 -artifact_prefix=.fuzz/

bench: $(VENV)/.dev servers ## a speed question beside its peers: make bench NAME=...
	bench/install.sh
	$(BIN)/python -m bench $(NAME) $(ARGS)

storm: $(VENV)/.dev servers ## everything breaks at random while mails arrive: make storm MINUTES=10 BROKER=redis
	$(BIN)/python -m tests.rig.storm --minutes $(or $(MINUTES),1) --broker $(or $(BROKER),redis) $(ARGS)

drill: $(VENV)/.dev servers ## what operators do or suffer, while mails arrive: make drill NAME=rotation
	$(BIN)/python -m tests.drills $(NAME) $(if $(FROM),--from $(FROM)) $(ARGS)

fuzz: $(VENV)/.dev servers ## is what is called valid what other readers show: make fuzz MINUTES=10
	$(BIN)/python -m tests.fuzz.verdict_fuzz --minutes $(or $(MINUTES),10) $(ARGS)

fuzz-api: $(VENV)/.dev ## requests made from the OpenAPI document, by every role: make fuzz-api MINUTES=10
	$(BIN)/python -m tests.fuzz.api_fuzz --minutes $(or $(MINUTES),10) $(ARGS)

fuzz-facts: $(VENV)/.dev servers ## facts of broken mails, and beside other readers: make fuzz-facts MAILS=10000
	FUZZED_MAILS=$(or $(MAILS),10000) ODD_MAILS=$(or $(MAILS),10000) \
		FACTS_EXAMPLES=$$(( $(or $(MAILS),10000) / 5 )) \
		$(BIN)/python -m pytest -n 0 tests/unit/mail/test_fuzzed_facts.py \
		tests/integration/test_facts_readers.py tests/integration/test_odd_mails.py $(ARGS)

format: $(VENV)/.dev ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: | $(UV) ## re-lock the dependencies
	requirements/lock.sh

audit: $(VENV)/.dev ## known weaknesses of what is locked (asks an online database)
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements/run.lock -r requirements/image.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
