# Two commands do everything on a fresh machine:
#   make demo   measure the sample slides, print the marker table
#   make test   run every test
# PYTHON chooses the interpreter (3.11 or newer), VENV where it is set up.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-core lint phantoms clean

demo: $(VENV)/.ready
	$(BIN)/histoquant batch sample_slides/manifest.csv --out demo_results

# The napari plugin's tests join here when the plugin does; test-core never needs a screen.
test: test-core

test-core: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Draws the synthetic sample slides and their truth again, the same to the pixel.
phantoms: $(VENV)/.ready
	$(BIN)/histoquant phantom sample_slides --cohort 4 --seed 2019

clean:
	rm -rf $(VENV) demo_results

$(VENV)/.ready: pyproject.toml
	$(call environment)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml
	$(call environment)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.ready

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "histoquant needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try make PYTHON=python3.12"; exit 1; }
@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	{ echo "python3 -m venv does not work here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
endef
