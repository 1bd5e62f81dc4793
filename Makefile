# Every target does all of its own set-up: a virtual environment in .venv, nothing outside the tree.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint docs soak clean
.DEFAULT_GOAL := test

demo: $(READY)
	$(BIN)/edgevid demo --out demo

test: lint
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder -m "not soak" tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site; a warning or a broken internal link is an error.
docs: $(READY)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo build/docs/index.html

# Slow trials: fuzzing, kill sweeps, long runs, and real models; these need Debian's
# python3-torchvision.
soak: $(READY)
	$(BIN)/python -m pytest -m soak tests
	$(BIN)/python benchmarks/models.py --parts edgevid --json build/models.json --at-least 22

$(READY): pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Debian and Ubuntu ship python3 without the part that makes virtual environments.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "edgevid needs Python 3.11 to 3.13, this is $$($(PYTHON) --version); give one with: make PYTHON=python3.12" >&2; exit 2; }
	@rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  rm -rf $(VENV); \
	  as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	  { $$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >/dev/null || { \
	    echo "python3 lacks its venv module; run: sudo apt-get install python3-venv" >&2; exit 2; }; \
	  $(PYTHON) -m venv $(VENV); }

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
