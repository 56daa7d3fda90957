# From a fresh clone: `make demo` and `make test` need python3 (3.11 or later) and make, nothing else.
PYTHON ?= python3
FAISS ?= cpu
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready-$(FAISS)
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench-quality bench-speed clean

help:
	@echo "make demo    see it work: ingest, embed, train, evaluate, recommend (some minutes)"
	@echo "make test    run every test"
	@echo "make check   lint, formatting, types, layers, documentation"
	@echo "make docs    build the documentation into site/"
	@echo "make bench-quality   how good beside other models: docs/benchmarks.md (an hour or more; DATA=DIR has the data)"
	@echo "make bench-speed     how fast beside rivals and limits: docs/benchmarks.md (an hour or more, on an idle machine)"
	@echo "make clean   remove what the commands made: $(VENV), artifacts, caches"
	@echo "Each builds $(VENV) first where it is missing or out of date."
	@echo "PYTHON=python3.12 chooses the interpreter; FAISS=gpu installs faiss-gpu in place of faiss-cpu."

demo: $(READY)
	@$(BIN)/recsys demo

# One worker a core, one thread a worker; a file stays on one worker, for its fixtures.
test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --durations=10

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(MKDOCS)

docs: $(READY)
	@$(MKDOCS)
	@echo "Open site/index.html"

bench-quality: $(READY)
	@$(BIN)/python -m benchmarks.quality.weak_spots --data $(DATA)
	@$(BIN)/python -m benchmarks.quality --data $(DATA)

bench-speed: $(READY)
	@$(BIN)/python -m benchmarks.speed --data $(DATA)

clean:
	rm -rf $(VENV) artifacts build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# faiss-cpu and faiss-gpu share the module `faiss`: installed side by side they break each other.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recsys needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@rm -f $(VENV)/.ready-*
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  1/2 torch, the largest part ..."
	@$(PIP) install -qq -c constraints.txt torch
	@$(PIP) uninstall -qq --yes $(if $(filter gpu,$(FAISS)),faiss-cpu,faiss-gpu) 2>/dev/null || true
	@echo "  2/2 everything else, in the tested versions of constraints.txt ..."
	@$(PIP) install -qq -c constraints.txt -e '.[$(FAISS),train,tune,int8,gbdt,multilingual,finetune,report,service,demo,bench,docs,dev]'
	@touch $@
	@echo "  $(VENV) is ready."
