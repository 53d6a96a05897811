# Everything a newcomer needs: `make quickstart` runs the main job, `make test` passes the tests.
# Both make their own environment in .venv from the pinned requirements; nothing else is touched.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := orchestrator profiles quants results runners tests tools
RUN ?= runs/quickstart

.PHONY: help quickstart test test-long test-exams check format system-deps llama-cpp stand-in fit-truth published bench attacks chaos wheel lock clean

help:
	@echo "make quickstart    run a real sweep on this machine: quants x seeds of the stand-in model, graded"
	@echo "make test          run the tests"
	@echo "make test-long     the tests that take minutes: sweeps over clusters that lose nodes, disks and agents"
	@echo "make test-exams    every specimen of the Go exams whose grading takes long, under both sandboxes (many minutes)"
	@echo "make check         ruff, mypy"
	@echo "make system-deps   install the system packages that some tests need (Debian, Ubuntu; asks for root)"
	@echo "make llama-cpp     build a real llama-server outside the tree, once (BACKEND=cpu|cuda|vulkan|rocm|metal)"
	@echo "make bench         print the benchmarks' ratios"
	@echo "make attacks       try hostile programs, files, replies and hosts, and print what held"
	@echo "make chaos         random faults over real sweeps on a cluster of several nodes on this host (FAULTS=100 SEED=n)"
	@echo "make stand-in      train, convert and quantize the stand-in model anew (needs torch, minutes)"
	@echo "make fit-truth     ask a real llama.cpp again what models take (LLAMA_SOURCE=... LLAMA_BUILD=...)"
	@echo "make published     make the Parquet file of the published figures from its sources (results/published)"
	@echo "make wheel         build the wheel into dist/"
	@echo "make lock          pin the requirements anew (needs uv)"

quickstart: $(VENV)/runtime
	$(BIN)/quantsweep run quickstart --out $(RUN)

# The tests start hundreds of processes: where compiled modules may not be kept, each compiles ours anew.
test test-long test-exams: export PYTHONDONTWRITEBYTECODE :=

# Each worker takes whole files; more than a few would get into each other's way where time is measured.
test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-long: $(VENV)/dev
	$(BIN)/python -m pytest -m long

test-exams: $(VENV)/dev
	$(BIN)/python -m pytest -m proof

check: $(VENV)/dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/dev
	@for file in tests/bench/bench_*.py; do \
		echo "== $$file"; $(BIN)/python -m "$$(echo $${file%.py} | tr / .)" || exit 1; \
	done

attacks: $(VENV)/dev
	$(BIN)/python -m tests.attacks

# As root, disks are really full and every node has a host name of its own. LLAMA_SERVER=... adds that engine.
FAULTS ?= 100
chaos: $(VENV)/dev
	$(BIN)/python -m tests.chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

wheel: $(VENV)/dev
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

# BACKEND=cuda|vulkan|rocm|metal for a GPU: what each needs is looked for first (docs/gpu-builds.md).
llama-cpp: $(VENV)/runtime
	$(BIN)/python -m tools.build_llama_cpp $(BACKEND)

# Asks a real llama.cpp anew: LLAMA_SOURCE is its tree, LLAMA_BUILD where it was built (see tools/fit_truth).
fit-truth: $(VENV)/dev
	$(BIN)/python -m tools.fit_truth.make_truth $(LLAMA_SOURCE) $(LLAMA_BUILD)

published: $(VENV)/runtime
	$(BIN)/python -m results.published.table

# Torch stays out of .venv: only the stand-in's training needs it.
LLAMA_QUANTIZE ?= llama-quantize
stand-in:
	$(PYTHON) -m venv .venv-standin
	.venv-standin/bin/python -m pip install --quiet -r tools/standin/requirements.txt
	.venv-standin/bin/python tools/standin/build.py --llama-quantize $(LLAMA_QUANTIZE) --out quants/standin

system-deps:
	sh tools/system_deps.sh

# The two environments share a folder: the first has what a run needs, the second adds what the tests need.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "quantsweep needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python's venv module is missing: sudo apt-get install python3-venv" >&2; exit 2; }

$(VENV)/runtime: requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements-dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements-dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/runtime

lock:
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 --quiet \
		--custom-compile-command "make lock" requirements.in --output-file requirements.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 --quiet \
		--custom-compile-command "make lock" requirements-dev.in --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
