# Daily commands. Needs Python >= 3.11 and make; everything else goes into .venv.
#
#   make serve                      the embedded demo model on 127.0.0.1:8000
#   make serve PORT=9000 MODEL=OpenGVLab/InternVL3-1B-hf
#   make test                       the whole test suite (make test ARGS="-k tiling -x")
#   make test-long                  two minutes of schemathesis over every route (ARGS="--seconds 600")
#   make check                      format, lint and types
#   make lint                       the fixing form of format and lint
#   make bench                      speed of the engine on this CPU, with random weights
#   make bench SHAPE=1b ONLY=decode,generate
#   make soak                       ten minutes of mixed requests, clients and workers that go away
#   make soak SECONDS=60 ARGS="--seed 2"
#   make gpu-check                  is this CUDA machine fit for the fast path? (a few minutes)

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?=
SHAPE ?= small
ONLY ?=
SECONDS ?= 600
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help serve test test-long check lint bench soak gpu-check clean

help:
	@sed -n 's/^#   //p' Makefile

serve: $(INSTALLED)
	@exec $(BIN)/internvl-server serve $(MODEL) --host $(HOST) --port $(PORT) $(ARGS)

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 1 $(ARGS)

test-long: $(INSTALLED_DEV)
	$(PIP_INSTALL) -e ".[long]"
	$(BIN)/python -m tests.long $(ARGS)

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED_DEV)
	$(BIN)/python -m tests.bench --shape $(SHAPE) $(if $(ONLY),--only $(ONLY)) $(ARGS)

soak: $(INSTALLED_DEV)
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(ARGS)

gpu-check: $(INSTALLED)
	$(BIN)/python -m model_runtime.gpu_check

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A stamp is written only after pip has finished, so an interrupted install is done again.
$(INSTALLED): pyproject.toml constraints.txt
	$(make_venv)
	@echo "Installing into $(VENV) (once; a few minutes on a slow line)..."
	@$(PIP_INSTALL) -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt
	$(make_venv)
	@echo "Installing into $(VENV) with the test tools (once; a few minutes on a slow line)..."
	@$(PIP_INSTALL) -e ".[dev]"
	@touch $@ $(INSTALLED)

define make_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; }
@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	{ echo "No virtual environment could be made. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
endef
