# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test slow lint bench figures clean

demo: $(VENV)/.installed
	$(BIN)/mechdistill train
	$(BIN)/mechdistill induction-scores runs/quickstart
	$(BIN)/mechdistill report runs/quickstart

test: lint
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow"

# whole studies, the README's commands, the notebooks: a quarter of an hour on 2 cores
slow: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2 --dist loadgroup -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.benchmarks

# five seeds of the quickstart twins; what is trained already is not trained again. Pictures need Chromium or Chrome.
figures: $(VENV)/.installed
	$(BIN)/mechdistill train --seeds 0-4 --out runs/figures
	$(BIN)/python -m analyses.figures runs/figures

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11; set PYTHON=python3.11 or newer"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
