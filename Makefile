# Two commands do everything: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODELS := examples/reference_models
# One thread a process: two threads on two busy cores were measured 100 times slower.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: help setup demo test check bench train soak clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(VENV)/.installed ## create .venv from the constraints files

$(VENV)/.installed: pyproject.toml constraints.txt constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed, got %s: make PYTHON=/path/to/python3.11 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints-cpu.txt setuptools wheel torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints-cpu.txt --no-build-isolation -e ".[dev]"
	@# mypy and editors see the top-level folders as the one package they are installed as.
	mkdir -p $(VENV)/types/latentlog
	for part in cli evidence inversion ledger migrations package/__init__.py package/py.typed; do \
		ln -sfn ../../../$$part $(VENV)/types/latentlog/$$(basename $$part); done
	touch $@

demo: setup ## one dispute, told by the commands a user would type
	$(BIN)/latentlog demo

test: setup ## the whole test suite
	$(BIN)/pytest

check: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup ## every benchmark, quick; rewrites the tables of docs/benchmarks.md
	$(BIN)/python benchmarks/run_all.py --quick

train: setup ## train, export and describe the two reference generators (resumable)
	$(BIN)/python $(MODELS)/train.py --name faces --seed 1
	$(BIN)/python $(MODELS)/train.py --name faces-sibling --seed 2
	$(BIN)/python $(MODELS)/export.py

soak: setup ## the big counts: kills, mutations, million-entry ledgers (not in CI)
	$(BIN)/pytest -m soak

clean: ## remove .venv and what builds leave
	rm -rf $(VENV) build dist *.egg-info demo-output
