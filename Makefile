# make train   trains on the embedded data set      make test    runs the tests
# make lint    format, lint and types               make train ARGS='--epochs=5'
# make test-slow     what mostly compiles           make test-long     what takes minutes each
# make test-parity   other libraries anew           make test-gpu      a GPU beside the CPU
# make docs          builds the site in site/
# make package       sdist and wheel in dist/       make serve-docs    shows it while one writes
# make constraints   pins the newest versions for every Python
# make evidence CLAIM=NAME   tests a claim of configs/claims/
# make mutants       small changes of the code that a test must notice

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
# The fast tests compile more than they compute: without most optimisations of XLA and LLVM
# they take two thirds of the time. The slow ones, and the fast ones with 0, compile as a run.
QUICK_COMPILE := 1
RUN := $(VENV)/bin/python

.PHONY: train test test-slow test-long test-parity test-gpu lint install
.PHONY: docs serve-docs package constraints mutants evidence
.DEFAULT_GOAL := train

train: install
	$(RUN) train.py $(ARGS)

test: install
	JAX_DISABLE_MOST_OPTIMIZATIONS=$(QUICK_COMPILE) $(RUN) -m pytest $(ARGS)

test-slow: install
	$(RUN) -m pytest -m 'slow and not long and not parity and not gpu' $(ARGS)

test-long: install
	$(RUN) -m pytest -m long $(ARGS)

test-parity: install
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parity]'
	$(RUN) -m pytest -m parity $(ARGS)

test-gpu: install
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gpu]'
	JAX_PLATFORMS=cuda,cpu $(RUN) -m pytest -m gpu -n 0 $(ARGS)

mutants: install
	PYTHONPATH=tests JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(RUN) -m mutation $(ARGS)

evidence: install
	$(RUN) scripts/reproduce.py configs/claims/$(CLAIM).gates.toml $(ARGS)

lint: install
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/pyright

docs: $(VENV)/docs
	$(RUN) -m mkdocs build --strict $(ARGS)

serve-docs: $(VENV)/docs
	$(RUN) -m mkdocs serve $(ARGS)

$(VENV)/docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	touch $@

package: install
	rm -rf dist
	$(RUN) -m build --outdir dist
	$(RUN) -m twine check --strict dist/*

# Without gpu, tpu and tensorflow, whose pins conflict with these.
constraints: install
	$(RUN) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip compile --universal --no-annotate --python-version 3.11 --upgrade \
		--extra train --extra test --extra docs --extra trackers \
		--output-file constraints.txt pyproject.toml

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[train,test]'
	touch $@
