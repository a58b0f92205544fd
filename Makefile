# Each target sets up what it needs in .venv, so a fresh machine needs Python 3.11 (with venv) and make only.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: help demo test lint docs clean

help:
	@echo "make demo   generate a marked clip, attack it, verify it (installs torch)"
	@echo "make test   run the tests"
	@echo "make lint   run ruff and mypy"
	@echo "make docs   build the documentation into site/, links checked"
	@echo "make clean  remove .venv and the caches"

# One stamp per set of extras, older than pyproject.toml only when pyproject.toml changed. An environment that is
# already there is kept and completed; one that has no working pip (half made, moved Python) is made anew.
$(VENV)/.installed-%: pyproject.toml
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable "$(if $(filter base,$*),.,.[$*])"
	@touch $@

demo: $(VENV)/.installed-generate
	$(PY) -m genwm demo

test: $(VENV)/.installed-dev
	$(PY) -m pytest

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build site ./*.egg-info
