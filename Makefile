PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test fuzz bench check clean

help:  ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

demo: .venv/ready  ## A league table of continual-learning strategies, in a minute
	$(BIN)/perdure compare

test: .venv/ready  ## The whole suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: .venv/ready  ## An hour of malformed texts, lines and files, and of runs that are killed
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest --timeout 0 -n 2 --dist loadfile tests/fuzz tests/jobs/test_kills.py

check: .venv/ready  ## Lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_layers.py

bench: .venv/ready  ## Every figure, side by side with its peers
	$(BIN)/python -m benchmarks

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Perdure needs Python 3.11 or newer; name one with: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/ready

clean:  ## Remove the environment and everything made
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache perdure-runs mlflow.db mlruns mlartifacts
