# Everything there is to do, each in one word. Needs Python 3.10 or newer and make, nothing else:
# a target installs what it needs into .venv first. `make PYTHON=python3.12 ...` chooses the Python of a new .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := $(VENV)/demo.stamp
DEV    := $(VENV)/dev.stamp
MINUTES := 10
# One process for each core. The tests of a file stay together until a process is idle: they share daemons.
SPREAD := --numprocesses=auto --maxprocesses=8 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: chaos check clean demo format help proto same-python test test-long
MAKEFLAGS += --no-print-directory

demo: $(DEMO)  ## start a small cluster on this machine and run two models on it
	@$(BIN)/flexpie demo

test: $(DEV)  ## run the tests
	@echo "Running the tests"
	@$(BIN)/python -m pytest --quiet $(SPREAD)

test-long: $(DEV)  ## run the tests with many more random examples, and the slow ones
	@echo "Running the tests, the long way"
	@FLEXPIE_LONG=1 $(BIN)/python -m pytest --quiet $(SPREAD) --timeout=3600

chaos: $(DEV)  ## let devices, links and the master fail for MINUTES=10 while clients ask; as root, report in chaos/
	@echo "Letting things fail for $(MINUTES) minutes"
	@rm -rf chaos
	@$(BIN)/python -m bench.chaos --minutes $(MINUTES) --output chaos

check: $(DEV)  ## check format, lint, types, floors, generated stubs, docs, the table of operators and Docker files
	@echo "Format:" && $(BIN)/ruff format --check
	@echo "Lint:" && $(BIN)/ruff check
	@echo "Types:" && $(BIN)/mypy
	@echo "Floors:" && $(BIN)/lint-imports --no-logo
	@echo "Stubs:" && $(BIN)/python -m scripts.generate_stubs --check
	@echo "Docs:" && $(BIN)/python -m scripts.check_docs
	@echo "Operators:" && $(BIN)/python -m scripts.operator_table --check
	@echo "Docker:" && $(BIN)/python -m scripts.check_docker

format: $(DEV)  ## format the code, apply the safe fixes, put the real --help into the docs
	@echo "Formatting"
	@$(BIN)/ruff check --fix --exit-zero --quiet
	@$(BIN)/ruff format
	@$(BIN)/python -m scripts.check_docs --write

proto: $(DEV)  ## generate flexpie/wire/v1 from proto/
	@$(BIN)/python -m scripts.generate_stubs

clean:  ## remove .venv and everything else that make and the tools leave
	@echo "Removing .venv, builds and caches"
	@rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------------------- .venv

# Installs FlexPie with one extra; what pip says is shown only when it fails.
define install
	@echo "Installing flexpie[$(1)] into $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --editable '.[$(1)]' >$(VENV)/install.log 2>&1 \
		|| { cat $(VENV)/install.log; exit 1; }
endef

$(DEMO): pyproject.toml | same-python
	$(call install,demo)
	@touch $@

$(DEV): pyproject.toml | same-python
	$(call install,dev)
	@touch $(DEMO) $@

# A PYTHON asked for must not be ignored silently because an older .venv is there.
same-python:
ifneq ($(origin PYTHON),file)
	@test ! -x $(BIN)/python || test "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" \
		|| { echo "$(VENV) has $$($(BIN)/python -V), not $(PYTHON): run make clean first"; exit 1; }
else
	@:
endif
