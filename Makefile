# make run     the camera or, where there is none, the demo        make run ARGS="--source clip.mp4"
# make test    lint, types and the tests that a contributor waits for: tests/unit and tests/integration
# make ci      all of it, as CI runs it: the tests marked long and the whole runs of tests/e2e too
# make bench   the pipeline against plain loops, one of which needs TensorFlow
# Each sets up .venv first, and again only when the pinned requirements change.

ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The first Python that all pinned packages have wheels for; PYTHON=… names another.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)

.PHONY: run test ci lint bench clean
.DELETE_ON_ERROR:

run: $(VENV)/.run
	$(BIN)/python run.py $(ARGS)

test: lint
	$(BIN)/python -m pytest tests/unit tests/integration -m "not long" $(ARGS)

ci: lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.train
	$(BIN)/python run.py bench $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt | $(BIN)/python
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/.train: requirements.txt requirements-train.txt | $(BIN)/python
	$(PIP) -r requirements-train.txt
	touch $@ $(VENV)/.run

$(VENV)/.dev: requirements.txt requirements-train.txt requirements-torch.txt requirements-ray.txt requirements-dev.txt | $(BIN)/python
	$(PIP) -r requirements-dev.txt
	touch $@ $(VENV)/.run $(VENV)/.train
