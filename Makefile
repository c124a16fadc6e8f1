# One command runs the main job, one passes the tests. Each makes its own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
export HF_HUB_OFFLINE = 1

.PHONY: demo test test-full check bench clean

# torch comes first and alone: a bare `torch` would bring gigabytes of CUDA along.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)  ## train on examples/reviews.csv, evaluate, predict: under three minutes on two cores
	$(BIN)/bertsmith train examples/reviews.csv --out runs/reviews --force
	$(BIN)/bertsmith evaluate runs/reviews
	$(BIN)/bertsmith predict runs/reviews \
	  "Not bad, but not great either." \
	  "I'd book the same room again tomorrow." \
	  "Three updates later it still loses my notes."
	@echo
	@echo "The run lies in runs/reviews: the model in runs/reviews/model, the scores in runs/reviews/scores.json."

test: $(READY)  ## the suite, under twelve minutes on two cores; no network, no data sets
	$(BIN)/python -m pytest -m "not slow and not shared_data" -n 2 --dist worksteal

test-full: $(READY)  ## the slow tests and those that need the real data sets (BERTSMITH_DATA)
	$(BIN)/python -m pytest -m "slow or shared_data"

check: $(READY)  ## format, lint, types, and the order of the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(READY)  ## the figures of the README (an hour; needs the real data sets)
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/tasks.py
	$(BIN)/python benchmarks/check_million.py
	$(BIN)/python benchmarks/predict_memory.py

clean:
	rm -rf $(VENV) runs build dist
