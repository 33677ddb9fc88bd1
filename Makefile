# make serve     run the service with the shipped models (installs the runtime only, no PyTorch)
# make test      run every check: ruff, mypy, import-linter, pytest without its slow tests
# make test-all  the same with them, as CI does
# make mutants   how many small faults the tests of six files see (minutes; not in CI)
# make train     an environment with PyTorch for `.venv/bin/python -m training`
# make docs      build the help pages again, after a change to docs/ (`make serve` builds them the first time)
# make bench     the service beside naive endpoints and model servers (needs wrk; installs them into build/bench)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help docs serve test test-all pytest-quick pytest-all check mutants train bench format clean
help:
	@sed -n 's/^# //p' Makefile

serve: .venv/runtime.stamp
	$(BIN)/python -m service

docs: .venv/runtime.stamp
	$(BIN)/pip install -q -c constraints.txt zensical
	$(BIN)/python docs/build_site.py

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: .venv/test.stamp
	$(MAKE) -j2 check pytest-quick

test-all: .venv/test.stamp
	$(MAKE) -j2 check pytest-all

pytest-quick: .venv/test.stamp
	$(PYTEST) -m 'not slow'

pytest-all: .venv/test.stamp
	$(PYTEST)

check: .venv/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: .venv/test.stamp
	$(BIN)/pip install -q -c constraints.txt mutmut
	OMP_NUM_THREADS=1 $(BIN)/python -m mutmut run
	$(BIN)/python -m mutmut results

train: .venv/train.stamp
	@echo 'Ready. Start with: $(BIN)/python -m training --help'

bench: .venv/test.stamp
	$(BIN)/python -m benchmarks.serving

format: .venv/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist

#: A stamp is newer than what it was made from, so a changed pin or dependency installs again.
.venv/pip.stamp:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Hourglass needs Python 3.11 or newer, found {sys.version}")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/runtime.stamp: .venv/pip.stamp pyproject.toml clients/python/pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e . -e clients/python
	touch $@

.venv/train.stamp: .venv/pip.stamp pyproject.toml clients/python/pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[training]' -e clients/python
	touch $@ .venv/runtime.stamp

.venv/test.stamp: .venv/pip.stamp pyproject.toml clients/python/pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[training,tracing,test]' -e 'clients/python[bucket,mqtt,opcua,pandas,video,watch]'
	touch $@ .venv/train.stamp .venv/runtime.stamp
