PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PINS := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## probe a trained network, write runs/binary and say where its figures are
	$(BIN)/softmode probe fashion-mnist-binary --out runs/binary

# loadfile: the examples of one page share a namespace, so one worker runs them all. Files begin in the order of
# tests/conftest.py, the longest first, not in that of their numbers of tests.
test: $(STAMP) ## run the tests and the examples in README.md and docs/
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## time sampling, probing, training and guidance against the straightforward ways
	$(BIN)/python benchmarks/patch_sampling.py
	$(BIN)/python benchmarks/trained_networks.py gains
	$(BIN)/python benchmarks/trained_networks.py probe
	$(BIN)/python benchmarks/trained_networks.py training
	$(BIN)/python benchmarks/guidance.py

clean: ## remove the environment, caches and build outputs; runs/ is kept
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs benchmarks conftest.py -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	rm -rf __pycache__

# The two variables pin the build's own environment too (PIP_CONSTRAINT before pip 25.3, PIP_BUILD_CONSTRAINT since).
# --no-compile: Python compiles what it imports, a small part of all that is installed.
# tests/packages.txt says why those come without what they require.
$(STAMP): pyproject.toml constraints.txt tests/packages.txt
	@command -v $(PYTHON) >/dev/null || { echo "softmode: '$(PYTHON)' not found: install Python >= 3.11 (Debian: apt install python3 python3-venv) or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "softmode: '$(PYTHON)' is no Python >= 3.11: install one (Debian: apt install python3 python3-venv) or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "softmode: '$(PYTHON)' cannot make virtual environments: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(PINS) PIP_BUILD_CONSTRAINT=$(PINS) $(BIN)/pip install --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --no-compile --no-deps -r tests/packages.txt
	@touch $@
