# Everything a developer or a CI job does here; each target works from a fresh clone by itself.
# Nothing is left outside the repository but package caches.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
SERVER := docker/hapi/start.py
# What shares a server or a run stays in one process (tests/conftest.py).
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder
SOURCES := fhir_adapter tests scripts benchmarks docker

# The tests start hundreds of processes; without compiled modules each would compile the package.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help doctor install demo demo-hapi test soak lint bench docs clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

doctor: ## Say what is missing, and the one line that installs it
	@PYTHON=$(PYTHON) scripts/doctor.sh

install: .venv/.dev ## Make .venv with everything for development

demo: .venv/.run ## Run the reference study on its synthetic cohort, without a server
	$(BIN)/fhir-adapter demo --out demo-out

demo-hapi: .venv/.run ## The same on a HAPI FHIR server that is started and stopped here, with write-back
	$(BIN)/python $(SERVER) -- $(BIN)/fhir-adapter demo --server '{base}' --out demo-out/hapi

test: system lint ## Lint, then every test but the long ones
	$(BIN)/pytest -m "not soak" $(PARALLEL)

soak: system .venv/.dev ## The long versions of the tests
	HYPOTHESIS_PROFILE=search $(BIN)/pytest -m soak || { status=$$?; [ $$status -eq 5 ] && echo "There is no long test yet." || exit $$status; }

lint: .venv/.dev ## Style, types, direction of imports, Dockerfiles, shell syntax
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile
	for script in scripts/*.sh docker/*.sh .ci/run; do bash -n "$$script"; done

bench: .venv/.dev ## Every benchmark; fails where one is over its limit
	for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(BIN)/python "$$benchmark"; done

docs: .venv/.dev ## Write the generated pages of docs/ anew
	$(BIN)/python scripts/build_docs.py

clean: ## Remove what make has made
	rm -rf .venv .hapi build dist demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: system
system:
	@PYTHON=$(PYTHON) scripts/doctor.sh --install

# Stamps, so that a second make is quick. `.run` is what a run needs, `.dev` all of development.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; make doctor says more" >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; scripts/doctor.sh >&2; exit 1; }

.venv/.run: requirements/base.txt requirements/build.txt pyproject.toml | .venv/bin/python
	[ -e .venv/.dev ] || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/base.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@ .venv/.run
