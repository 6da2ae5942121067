# make train   trains on the embedded data set      make test    runs the tests
# make lint    format, lint and types               make train ARGS='--epochs=5'
# make test-slow     what takes minutes             make test-parity   beside other libraries
# make test-gpu      a GPU beside the CPU          make mutants     small changes that a test must notice

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test test-slow test-parity test-gpu mutants lint install
.DEFAULT_GOAL := train

train: install
	$(RUN) train.py $(ARGS)

test: install
	$(RUN) -m pytest $(ARGS)

test-slow: install
	$(RUN) -m pytest -m slow $(ARGS)

test-parity: install
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parity]'
	$(RUN) -m pytest -m parity $(ARGS)

test-gpu: install
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gpu]'
	JAX_PLATFORMS=cuda,cpu $(RUN) -m pytest -m gpu -n 0 $(ARGS)

mutants: install
	PYTHONPATH=tests $(RUN) -m mutation $(ARGS)

lint: install
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/pyright

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,test]'
	touch $@
