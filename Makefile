# make install | train | test | test-all | lint | clean; each of the first five sets .venv up
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install train test test-all lint clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "reference-zoo needs Python 3.10 or newer; say which: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); torch is large, so the first time takes minutes"
	@$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $(STAMP)

train: install
	$(BIN)/python train.py experiment=lenet5_mnist

test: install
	$(BIN)/python -m pytest

test-all: install # the slow ones too
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean: # the environment and caches; never data, logs or weights
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .coverage
