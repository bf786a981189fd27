# Two commands do everything on a fresh machine:
#   make demo   measure the sample slides, print the marker table
#   make test   run every test
# PYTHON chooses the interpreter (3.11 or newer), VENV where it is set up.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
NAPARI_VENV ?= .venv-napari
INTEROP_VENV ?= .venv-interop
WHEELS_VENV ?= .venv-wheels
PLUGIN = plugins/napari-histoquant
SCREEN = xvfb-run --auto-servernum --server-args "-screen 0 1600x1000x24"

.PHONY: demo test test-core test-napari test-exports test-wheels lint phantoms system clean

demo: $(VENV)/.ready
	$(BIN)/histoquant batch sample_slides/manifest.csv --out demo_results

test: test-core test-napari

# What needs no Qt; the tests of the report's page and of SLURM are skipped where there is none.
# A file stays with one worker: its slides are drawn and measured once.
test-core: system $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST)

# Exports, read back by the libraries of the programs they are for (anndata, spatialdata, ome-zarr),
# and the example workflow, run by Snakemake.
test-exports: $(INTEROP_VENV)/.ready
	$(INTEROP_VENV)/bin/python -m pytest tests/test_export.py tests/test_labels.py \
		tests/test_slurm.py::test_snakemake

# The plugin, in an environment of its own, with a real canvas on a screen that nobody sees.
test-napari: system $(NAPARI_VENV)/.ready
	@cd $(PLUGIN) && \
	if command -v xvfb-run >/dev/null; then \
		$(SCREEN) $(abspath $(NAPARI_VENV))/bin/python -m pytest; \
	elif [ -n "$$DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
		$(abspath $(NAPARI_VENV))/bin/python -m pytest; \
	else \
		echo "NOT RUN: napari's tests need a screen; on Debian and Ubuntu: apt-get install xvfb libgl1-mesa-dri"; \
	fi

# Both packages as users get them: built, installed into an empty environment, opened from the menu.
test-wheels: system
	rm -rf $(WHEELS_VENV)
	$(PYTHON) -m venv $(WHEELS_VENV)
	$(WHEELS_VENV)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
		-w $(WHEELS_VENV)/wheels . ./$(PLUGIN)
	$(WHEELS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		$(WHEELS_VENV)/wheels/*.whl 'napari[pyqt6]'
	cd $(WHEELS_VENV) && if command -v xvfb-run >/dev/null; then \
		$(SCREEN) bin/python $(abspath $(PLUGIN))/tests/from_menu.py; \
	else echo "NOT RUN: napari needs a screen; on Debian and Ubuntu: apt-get install xvfb"; fi

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Draws the synthetic sample slides and their truth again, the same to the pixel.
phantoms: $(VENV)/.ready
	$(BIN)/histoquant phantom sample_slides --cohort 4 --seed 2019

clean:
	rm -rf $(VENV) $(NAPARI_VENV) $(INTEROP_VENV) $(WHEELS_VENV) demo_results

$(VENV)/.ready: pyproject.toml
	$(call environment,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml
	$(call environment,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.ready

$(INTEROP_VENV)/.ready: pyproject.toml
	$(call environment,$(INTEROP_VENV))
	$(INTEROP_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[interop]'
	@touch $@

$(NAPARI_VENV)/.ready: pyproject.toml $(PLUGIN)/pyproject.toml
	$(call environment,$(NAPARI_VENV))
	$(NAPARI_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		-e . -e '$(PLUGIN)[dev]'
	@touch $@

system:
	@.ci/system-packages

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "histoquant needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try make PYTHON=python3.12"; exit 1; }
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1) || \
	{ echo "python3 -m venv does not work here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
endef
