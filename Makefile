# Everything a fresh machine needs: `make demo` and `make test` set themselves up.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check fuzz setup clean

demo: $(INSTALLED)
	$(BIN)/mlia check examples/ds_cnn_small_int8.tflite -t ethos-u55-256

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_docs.py --check
	$(BIN)/python -m pytest

# The simulator beside LiteRT's reference kernels: every kind of operator on every Ethos-U.
fuzz: $(READY)
	$(BIN)/python tools/fuzz_simulator.py

setup: $(READY)

# What a user installs.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $(INSTALLED)

# And what the tests and the gate need besides.
$(READY): $(INSTALLED)
	$(PIP) --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
