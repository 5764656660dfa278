# Needs Python 3.11 or newer with pip and venv. `make demo` and `make test` set up all else, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TRUST := benchmark/trust
WITH_TIERS = $(if $(TIERS),--tiers "$(TIERS)") --bar "$(or $(BAR),1.0)"
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-all bench trust asked lint types contracts check ui clean lock

$(READY): pyproject.toml constraints.txt
	@echo "Installing into $(VENV), which takes about 3 minutes, this first time only"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'
	touch $(READY)

demo: $(READY)  ## the whole pipeline: on the bundled sample, or TRAFFIC=path [TIERS=path] [BAR=0.8]
	python -m pipelines.use_traffic "$(TRAFFIC)" "$(TIERS)" "$(BAR)"
	@# Without DVC's hint to push: nothing here has a remote.
	@bash -o pipefail -c "dvc repro | sed '/^Use .dvc push. to send/d'"
	@python -m pipelines.show

test: $(READY)  ## the tests but for the slow ones (simulations, real traffic, notebooks, whole pipelines)
	python -m pytest -m "not slow"

test-all: $(READY)  ## all tests, the slow ones included
	python -m pytest

bench: $(READY)  ## speed, as ratios; LITELLM_PYTHON=path compares with litellm, too
	python -m pytest benchmarks -n 0 -rs

# Each benchmark exits with 1 where something asked isn't seen; all of them run, and then this does, too.
trust: asked $(READY)  ## what is promised, put to the test: TRAIN=path TEST=path [TIERS=path] [BAR=1.0] [OTHER="path path:text"] [LEAST_SAVING=0.6]
	router-ml fit "$(TRAIN)" $(WITH_TIERS) --learner ngram --no-track --out $(TRUST)/router.onnx
	@missed=0; \
	python -m benchmarks.signals "$(TEST)" --router $(TRUST)/router.onnx --train "$(TRAIN)" $(OTHER:%=--other "%") --out $(TRUST) || missed=1; \
	python -m benchmarks.guarantees "$(TRAIN)" "$(TEST)" --router $(TRUST)/router.onnx $(LEAST_SAVING:%=--least-saving %) --out $(TRUST) || missed=1; \
	python -m benchmarks.off_policy "$(TRAIN)" "$(TEST)" --router $(TRUST)/router.onnx --out $(TRUST) || missed=1; \
	python -m benchmarks.partial "$(TRAIN)" "$(TEST)" $(WITH_TIERS) --out $(TRUST) || missed=1; \
	exit $$missed

asked:  # before anything is installed for it
	$(if $(and $(strip $(TRAIN)),$(strip $(TEST))),@:,$(error Give the traffic to train on and the traffic to test on: make trust TRAIN=train.parquet TEST=test.parquet [TIERS=tiers.yaml] [BAR=1.0]))

lint: $(READY)
	ruff check .
	ruff format --check .

types: $(READY)
	mypy

contracts: $(READY)
	lint-imports

check: lint types contracts

ui: $(READY)  ## MLflow's UI on the local store
	python -m pipelines.ui

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

lock:  ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

.PHONY: coverage
coverage: $(READY)  ## line coverage of router_ml by the tests of `make test`; `coverage report` then lists it by file
	python -m pytest -m "not slow" --cov --cov-report=
	@echo "Line coverage of router_ml: $$(coverage report --format=total) %"
