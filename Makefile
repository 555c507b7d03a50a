# Two commands do all the set-up: `make demo` and `make test`. They make a virtual environment in .venv, with uv
# where it is installed, else with Python's own venv and pip, and install into it only what the command needs.
# A stamp per set of packages makes the second call start at once; a changed pyproject.toml renews it.

.PHONY: help demo demo-llm test test-large test-browser test-scale test-others test-lowest coverage lint format \
    format-check types docs site notebooks build test-wheel snapshot \
    commit-message bump rehearse sbom audit \
    clean python libraries
.DEFAULT_GOAL := help
.NOTPARALLEL:
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
# uv trusts what pip and the system trust, such as the certificate of a company's proxy.
export UV_SYSTEM_CERTS ?= true

VENV ?= .venv
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
endif
UV := $(shell command -v uv 2>/dev/null)
ANY_PYTHON := $(or $(PYTHON),$(UV) run --quiet --no-project --python '>=3.11' python)
RUN := $(VENV)/bin
PYTEST_ARGS ?=

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## */\t/' | expand -t 16

demo: $(VENV)/.demo  ## run the main job on bundled messages: no key, no network
	@$(RUN)/llmtasker demo $(DEMO_ARGS)

demo-llm: libraries $(VENV)/.local  ## ask a small LLM in the process: downloads 93 MB of weights once, then no network
	@.ci/demo-llm $(RUN)/python $(DEMO_ARGS)

test: libraries $(VENV)/.test  ## run the tests
	@$(RUN)/python -m pytest $(PYTEST_ARGS)

test-large: $(VENV)/.large  ## run the tests that need large packages: the type checkers, polars, the oracles
	@$(RUN)/python -m pytest -m needs $(PYTEST_ARGS)

test-browser: $(VENV)/.browser  ## run the tests of the web page in a real browser: needs chromium
	@if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
	    echo 'These tests drive a browser: apt-get install chromium' >&2
	    exit 1
	fi
	$(RUN)/python -m pytest -m browser tests/test_ui_browser.py $(PYTEST_ARGS)

test-scale: python  ## run the tests on real clusters (Ray, Spark, Dask), in a network of their own: needs root, Java and redis-server
	@if ! command -v java >/dev/null; then
	    echo 'Spark needs Java 17: apt-get install default-jre-headless' >&2
	    exit 1
	fi
	if ! command -v redis-server >/dev/null; then
	    echo 'The workers share a Redis: apt-get install redis-server' >&2
	    exit 1
	fi
	$(MAKE) VENV=$(VENV)-scale $(VENV)-scale/.scale
	.ci/namespace $(VENV)-scale/bin/python -m pytest -m cluster --show-capture=no \
	    tests/test_scale_out.py tests/test_docs.py $(PYTEST_ARGS)

test-others: $(VENV)/.test  ## compare with the code of others: the page "coming from", the SDK of Langfuse
	@$(MAKE) VENV=$(VENV)-others $(VENV)-others/.others
	PYTHON_OF_OTHERS=$(abspath $(VENV)-others/bin/python) $(RUN)/python -m pytest -m others \
	    tests/test_coming_from.py tests/test_langfuse.py $(PYTEST_ARGS)

coverage: libraries $(VENV)/.test  ## run the tests and measure the branches they take, in programs they start too
	@$(RUN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

test-lowest: libraries  ## run the tests with the oldest versions that pyproject.toml allows
	@$(MAKE) VENV=$(VENV)-lowest RESOLUTION=lowest-direct $(VENV)-lowest/.lowest
	$(VENV)-lowest/bin/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.lint  ## look for mistakes
	@$(RUN)/ruff check

format: $(VENV)/.lint  ## lay the code out
	@$(RUN)/ruff format && $(RUN)/ruff check --fix-only --quiet

format-check: $(VENV)/.lint
	@$(RUN)/ruff format --check

types: $(VENV)/.large  ## check the types with mypy and pyright
	@$(RUN)/mypy
	$(RUN)/pyright --pythonpath $(RUN)/python

docs: $(VENV)/.test  ## run the code and the commands of README.md, docs/ and the docstrings
	@$(RUN)/python -m pytest tests/test_docs.py $(PYTEST_ARGS)

site: $(VENV)/.docs  ## build the documentation site in site/, in English and French
	@.ci/site $(RUN)

notebooks: $(VENV)/.docs  ## execute the notebooks of the documentation again, and make their pages
	@$(RUN)/python tests/notebooks.py

snapshot: $(VENV)/.test  ## accept a changed public interface into tests/public_api.txt
	@$(RUN)/python tests/test_public_api.py

build: $(VENV)/.build  ## make the wheel and the source archive in dist/
	@rm -rf dist
	$(RUN)/python -m build --outdir dist . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	$(RUN)/twine check --strict dist/*

test-wheel: libraries build  ## test the wheel alone, installed in an environment of its own outside this folder
	@.ci/wheel '$(PYTHON)' $(PYTEST_ARGS)

commit-message: $(VENV)/.release  ## check the message of a commit, for pre-commit
	@$(RUN)/cz check --commit-msg-file "$$(git rev-parse --git-path COMMIT_EDITMSG)"

bump: $(VENV)/.release  ## release: version, date in the changelog, commit and tag; INCREMENT=PATCH, MINOR or MAJOR
	@PATH="$(abspath $(RUN)):$$PATH" cz bump --increment $(INCREMENT) --yes

rehearse: $(VENV)/.release $(VENV)-all/.all  ## rehearse a release in a clone: version, changelog, tag, wheel, SBOM
	@.ci/rehearse $(RUN) $(VENV)-all/bin/python

sbom: $(VENV)/.release $(VENV)-all/.all  ## list what a release depends on in dist/ (CycloneDX)
	@mkdir -p dist
	.ci/sbom $(RUN) $(VENV)-all/bin/python dist/llmtasker-$$($(RUN)/cz version --project).cdx.json

# With --strict, a service that can't be reached fails. SECURITY.md says why this one advisory does not concern us.
audit: $(VENV)/.audit $(VENV)-all/.all  ## look for known vulnerabilities: needs the network
	@$(RUN)/pip-audit --strict --path "$$($(VENV)-all/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
	    --ignore-vuln GHSA-w8v5-vhqr-4h9v

$(VENV)-all/.all: pyproject.toml
	@$(MAKE) VENV=$(VENV)-all $(VENV)-all/.wanted
	touch $@

clean:  ## remove what these commands made
	@rm -rf $(VENV) $(VENV)-* .venv-checks* dist build site .cache .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what no package index has, checked before anything is installed -------------------------------------------

python:
	@if [ -z '$(PYTHON)$(UV)' ]; then
	    echo 'llmtasker needs Python 3.11 or later: none was found on the PATH. Name one: make PYTHON=/path/to/python3.12' >&2
	    exit 1
	fi

# tests/integration runs llama.cpp, which is linked to the OpenMP library of the system, and a Redis.
NEEDS_PARTS = $(if $(findstring --ignore=tests/integration,$(PYTEST_ARGS)),,yes)
NEEDS_OPENMP = $(and $(filter Linux,$(shell uname -s)),$(NEEDS_PARTS))

libraries: python
	@missing=
	if [ -n '$(NEEDS_OPENMP)' ] && ! $(ANY_PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
	    echo 'The tests in tests/integration need the shared library libgomp.so.1, which PyPI does not have.' >&2
	    missing=libgomp1
	fi
	if [ -n '$(NEEDS_PARTS)' ] && ! command -v redis-server >/dev/null; then
	    echo 'The tests in tests/integration need the program redis-server, which PyPI does not have.' >&2
	    missing="$${missing:+$$missing }redis-server"
	fi
	if [ -n "$$missing" ]; then
	    echo "Install it:      apt-get install $$missing    (Debian, Ubuntu; libgomp and redis elsewhere)" >&2
	    echo 'or skip them:    make test PYTEST_ARGS=--ignore=tests/integration' >&2
	    exit 1
	fi

# --- the virtual environment -----------------------------------------------------------------------------------

# What each stamp installs. `.demo` gets by with pip as it comes; groups need pip 25.1, which `.pip` sees to.
# Bytecode is not compiled ahead, which for modules that nobody imports would take 130 MB and a third of the time.
$(VENV)/.demo: WANTED = -e '.[progress,prices]'
$(VENV)/.local: WANTED = -e '.[local]' pip
$(VENV)/.test: WANTED = -e '.[all]' --group test
$(VENV)/.large: WANTED = -e '.[all]' --group test --group large
$(VENV)/.browser: WANTED = -e '.[all]' --group test --group browser
$(VENV)/.lint: WANTED = --group lint
$(VENV)/.build: WANTED = --group build
$(VENV)/.docs: WANTED = -e . --group docs
$(VENV)/.scale: WANTED = -e '.[data,redis]' --group scale
$(VENV)/.others: WANTED = --group others
$(VENV)/.release: WANTED = --group release
$(VENV)/.audit: WANTED = --group audit
$(VENV)/.wanted: WANTED = '.[all]'
$(VENV)/.lowest: WANTED = -e '.[all]' --group test --group large --resolution $(RESOLUTION)

$(VENV)/.made: | python
	@if [ -n '$(UV)' ]; then
	    '$(UV)' venv --quiet --clear --python '$(or $(PYTHON),>=3.11)' $(VENV)
	elif ! $(PYTHON) -m venv --clear $(VENV) 2>$(VENV).log; then
	    # Debian keeps venv's own copy of pip in a package of its own; a pip of the system can stand in.
	    if $(PYTHON) -m pip --version >/dev/null 2>&1 && $(PYTHON) -m venv --clear --without-pip $(VENV); then
	        $(PYTHON) -m pip --python $(VENV)/bin/python install -qq pip
	    else
	        cat $(VENV).log >&2
	        echo 'No virtual environment could be made. On Debian or Ubuntu: apt install python3-venv' >&2
	        exit 1
	    fi
	fi
	rm -f $(VENV).log
	touch $@

$(VENV)/.pip: $(VENV)/.made
	@if [ -z '$(UV)' ]; then $(RUN)/python -m pip install -qq --upgrade 'pip>=25.1'; fi
	touch $@

STAMPS := $(addprefix $(VENV)/.,test large browser scale others lint docs build release audit wanted)

$(STAMPS): $(VENV)/.pip

$(VENV)/.demo $(VENV)/.local $(STAMPS): pyproject.toml $(VENV)/.made
	@echo 'Installing what make $(or $(firstword $(MAKECMDGOALS)),$(@F)) needs into $(VENV) (this time only) …'
	if [ -n '$(UV)' ]; then
	    '$(UV)' pip install --quiet --python $(RUN)/python $(WANTED)
	else
	    $(RUN)/python -m pip install -qq --no-compile --disable-pip-version-check $(WANTED)
	fi
	touch $@

# Only uv can resolve to the oldest versions: without it on the PATH, it is installed beside them.
$(VENV)/.lowest: pyproject.toml $(VENV)/.pip
	@echo 'Installing the oldest versions allowed into $(VENV) (this time only) …'
	uv='$(UV)'
	if [ -z "$$uv" ]; then $(RUN)/python -m pip install -qq uv; uv=$(RUN)/uv; fi
	"$$uv" pip install --quiet --python $(RUN)/python $(WANTED)
	touch $@
