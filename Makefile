# Everything a fresh machine needs: `make demo` and `make test` set themselves up from the lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
# As many workers as there are cores; what is quick fills in for what is slow.
PYTEST := $(BIN)/python -m pytest -n logical --dist worksteal
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check fuzz fuzz-files latest lock setup clean

demo: $(INSTALLED)
	$(BIN)/mlia check examples/ds_cnn_small_int8.tflite -t ethos-u55-256

test: $(READY)
	$(PYTEST)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_docs.py --check
	$(BIN)/python tools/lock.py --check
	$(PYTEST) -m 'long or not long'

# The simulator beside LiteRT's reference kernels: every kind of operator on every Ethos-U.
fuzz: $(READY)
	$(BIN)/python tools/fuzz_simulator.py

# Damaged files of every format, given to every verb: docs/reliability.md has the table.
fuzz-files: $(READY)
	$(BIN)/python tools/fuzz_files.py --cases 10000 --markdown

# The same gate with the newest releases that pyproject.toml allows, to see what they will break.
latest:
	rm -rf .venv-latest
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --disable-pip-version-check --upgrade --editable '.[dev]'
	touch .venv-latest/.installed .venv-latest/.ready
	$(MAKE) check VENV=.venv-latest

# Renews the lock files: the newest releases that pyproject.toml and the converters allow.
lock: $(READY)
	$(BIN)/python tools/lock.py --upgrade

setup: $(READY)

# What a user installs, and what the build of the project itself needs.
$(INSTALLED): locks/user.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --requirement locks/user.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

# And what the tests and the gate need besides.
$(READY): $(INSTALLED) locks/dev.txt
	$(PIP) --require-hashes --requirement locks/dev.txt
	touch $(READY)

clean:
	rm -rf .venv .venv-latest .mypy_cache .ruff_cache .pytest_cache .hypothesis
