# Everything starts here; plain `make` tells what there is. Needs Python 3.11 or newer; a C compiler makes it faster.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
RUNTIME := $(VENV)/.runtime
EVERYTHING := $(VENV)/.everything
PROTOS := $(wildcard proto/services/wire/pb/*.proto)
PROTOC = $(BIN)/python -m grpc_tools.protoc -I proto \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=$(1) --mypy_grpc_out=$(1) $(PROTOS)

.DEFAULT_GOAL := help
.PHONY: help setup up test test-all check bench proto docs clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(EVERYTHING) ## make .venv with everything installed; then .venv/bin/moonpool

up: $(RUNTIME) ## install, fetch the model, serve until Ctrl-C; flags in ARGS="--port 9000"
	@exec $(BIN)/moonpool up $(ARGS)

test: $(EVERYTHING) ## the fast tests, a file at a time on two cores
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-all: $(EVERYTHING) ## all tests but those that need a GPU: real model, killed processes, slow ones
	$(BIN)/pytest -m 'not gpu' $(ARGS)

check: $(EVERYTHING) ## format, lint, types, import arrows, generated code and pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m services.runtime.reference --check
	$(BIN)/python -m deploy.grafana --check
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call PROTOC,"$$fresh") \
		&& for file in "$$fresh"/services/wire/pb/*; do \
			diff -u "services/wire/pb/$${file##*/}" "$$file" || { echo "stale: run make proto"; exit 1; }; \
		done && echo "generated code is fresh"

bench: $(RUNTIME) ## measure each part against this machine's limits
	@for part in $$($(BIN)/python -c 'import moonpool; print(*moonpool.BENCHES)'); do \
		$(BIN)/moonpool bench "$$part" $(ARGS) || exit 1; \
	done

proto: $(EVERYTHING) ## generate services/wire/pb from proto/
	$(call PROTOC,.)

docs: $(EVERYTHING) ## generate docs/settings.md, docs/metrics.md and the dashboards
	$(BIN)/python -m services.runtime.reference
	$(BIN)/python -m deploy.grafana

clean: ## remove .venv and everything that was generated but is not committed
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two steps, since serving needs only the first, which takes half as long.
$(RUNTIME): pyproject.toml constraints.txt $(wildcard engine/llama/*/*.[ch] kvstore/native/*.c)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Moonpool needs Python 3.11 or newer: make PYTHON=python3.11 ..")'
	@echo 'Installing into $(VENV), which takes minutes the first time: torch is large.'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) -e .
	@ls kvstore/native/copy.*so >/dev/null 2>&1 \
		|| echo 'No C code could be built (is there a compiler?), so the engine is slower. Once there is one: make clean setup'
	@touch $@

$(EVERYTHING): $(RUNTIME)
	@echo 'Installing what tests and checks need besides.'
	@$(PIP) -e '.[dev]'
	@touch $@
