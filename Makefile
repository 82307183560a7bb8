# make install | train | test | test-slow | test-all | lint | docs | release | release-check | clean; all but the last set .venv up
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONSTRAINTS := # make install CONSTRAINTS='-c constraints.txt': the versions that CI tests with

.PHONY: install train test test-slow test-all lint docs release release-check clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reference-zoo needs Python 3.11 or newer; say which: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); torch is large, so the first time takes minutes"
	@$(BIN)/pip install --disable-pip-version-check --quiet $(CONSTRAINTS) --editable '.[dev]'
	@touch $(STAMP)

train: install
	$(BIN)/python train.py experiment=lenet5_mnist

test: install # a worker a core, each on one thread
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: install # what needs minutes or a network
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'slow and not long'

test-all: install # those that need an hour too
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'slow or not slow'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/codespell

docs: $(VENV)/.docs # the site, in docs/_build/html/index.html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --doctree-dir docs/_build/doctrees docs docs/_build/html

$(VENV)/.docs: $(STAMP)
	@$(BIN)/pip install --disable-pip-version-check --quiet $(CONSTRAINTS) --editable '.[docs]'
	@touch $@

release: install # make release URL=https://…: wheel and sdist in dist/, and in dist/weights/ what URL has to serve
	@test -n "$(URL)" || { echo "say where the files of dist/weights/ will be: make release URL=https://…"; exit 2; }
	rm -rf dist
	ZOO_WHEEL=core ZOO_RELEASE_URL='$(URL)' $(BIN)/python -m build
	@! find dist -size +20000000c | grep . || { echo "a package index should get less than 20 MB"; exit 1; }
	$(BIN)/zoo download --all --folder dist/weights

release-check: # install the wheel of dist/ beside the clone, and fetch all weights from the address in it
	rm -rf dist/check
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --target dist/check dist/*.whl
	cd dist/check && env -u ZOO_WEIGHTS PYTHONPATH=. XDG_CACHE_HOME=cache $(abspath $(BIN))/python -P -m zoo download --all
	rm -rf dist/check

clean: # the environment and caches; never data, logs or weights
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .coverage docs/_build docs/made
