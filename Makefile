# make setup | demo | test. Everything lives in .venv; only Cassandra's jars go to the user's cache.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NODES  ?= 1
FUZZ_BYTES   ?= 100000000
FUZZ_SECONDS ?= 600
ENDURANCE    ?=
RUN    := $(VENV)/.run-$(shell cat pyproject.toml requirements/run.txt 2>/dev/null | cksum | cut -d' ' -f1)
TEST   := $(VENV)/.test-$(shell cat pyproject.toml requirements/test.txt 2>/dev/null | cksum | cut -d' ' -f1)
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes

.DEFAULT_GOAL := help
.PHONY: help setup demo cassandra cassandra-stop test endurance fuzz check lock clean

help:
	@echo 'make setup   the environment to run Headrace, in $(VENV)'
	@echo 'make demo    server, 20 simulated machines and pages, on the embedded database'
	@echo 'make cassandra  a real Cassandra on this machine, kept in data/cassandra (NODES=3: three nodes)'
	@echo 'make cassandra-stop  stop it; its data stays'
	@echo 'make test    all checks and tests'
	@echo 'make endurance  every fault in its long form, with one table; ENDURANCE="--only kill" for some of them'
	@echo 'make fuzz    made-up inputs for the parser and the journal, until FUZZ_BYTES are spent on the parser'
	@echo 'make check   ruff and mypy alone'
	@echo 'make lock    pin the packages anew (needs uv)'
	@echo 'make clean   remove the environment and caches'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is not. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv is missing. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 2; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# The stamp is written last: an interrupted installation is begun again.
$(RUN): | $(BIN)/python
	@echo "Installing what Headrace runs on (about half a minute) ..."
	@$(PIP) -r requirements/run.txt
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.run-* && touch $@

$(TEST): | $(RUN)
	@echo "Installing what the tests need (about a minute) ..."
	@$(PIP) -r requirements/test.txt
	@rm -f $(VENV)/.test-* && touch $@

setup: $(RUN)

demo: $(RUN)
	@exec $(BIN)/headrace demo

cassandra: $(RUN)
	@exec $(BIN)/python -m devcluster start --nodes $(NODES)

cassandra-stop: $(RUN)
	@exec $(BIN)/python -m devcluster stop

check: $(TEST)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: check
	@$(BIN)/python -m pytest -n 2

endurance: $(TEST)
	@exec $(BIN)/python -m tests.faults $(ENDURANCE)

fuzz: $(TEST)
	@$(BIN)/python -m tests.fuzz journal --seconds $(FUZZ_SECONDS)
	@$(BIN)/python -m tests.fuzz parser --bytes $(FUZZ_BYTES) --seconds 7200

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
	  pyproject.toml requirements/build.in -o requirements/run.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --extra test \
	  pyproject.toml requirements/build.in -o requirements/test.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
