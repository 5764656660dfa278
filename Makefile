# Needs Python 3.11 or newer with pip and venv. `make demo` and `make test` set up all else, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test bench lint types contracts check ui clean lock

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'
	touch $(READY)

demo: $(READY)  ## the whole pipeline: on the bundled sample, or TRAFFIC=path [TIERS=path]
	python -m pipelines.use_traffic "$(TRAFFIC)" "$(TIERS)"
	dvc repro
	@python -m pipelines.show

test: $(READY)  ## the tests
	python -m pytest

bench: $(READY)  ## speed, as ratios
	python -m pytest benchmarks -n 0

lint: $(READY)
	ruff check .
	ruff format --check .

types: $(READY)
	mypy

contracts: $(READY)
	lint-imports

check: lint types contracts

ui: $(READY)  ## MLflow's UI on the local store
	MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri sqlite:///mlflow.db

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

lock:  ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
