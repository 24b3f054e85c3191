# make demo   set-up, then the main job on the bundled sample: ingest, retrain, promote, serve, forecasts
# make stop   end everything that make demo left running
# make test   set-up, then every test but the long ones
# make bench  the benchmarks, each a ratio against a named peer measured in the same run; CASE=features runs one
# make noise  200 simulated panels without anything to find: at most 15 may show a claim; 35 minutes on two cores
# make check  format, lint and types, without tests
# The first use makes .venv; later ones reuse it. PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo stop test test-long bench noise check setup clean
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(0 if ok else \
	"SwiftBolt needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 " + "$(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/swiftbolt demo

stop: $(READY)
	@$(BIN)/swiftbolt stop

test: $(READY)
	$(BIN)/python -m pytest

test-long: $(READY)
	$(BIN)/python -m pytest -m long

bench: $(READY)
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(CASE)

noise: $(READY)
	PYTHONPATH=tests $(BIN)/python -m noise

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
