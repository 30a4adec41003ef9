# The two commands of the README. Each makes its own virtual environment and needs only python3, venv and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow docs docs-shown bench accuracy clean

demo: $(VENV)/.installed
	$(BIN)/infersim estimate meta-llama/Llama-3.1-70B-Instruct --gpu H100-SXM --tp 4 --precision fp8 \
		--input 2048 --output 256 --concurrency 32

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

test-slow: $(VENV)/.installed-test ## what needs a browser, a cluster or many seconds
	$(BIN)/pytest -n auto -m slow

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

docs-shown: $(VENV)/.installed-test ## put into the pages what their commands print now
	for page in docs/*.md docs/howto/*.md docs/physics/*.md docs/reference/*.md; do $(BIN)/python docs/_ext/blocks.py $$page || exit 1; done

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/speed.py

accuracy: $(VENV)/.installed ## after a calibration has changed: draw the sample again, store what the tests assert
	$(BIN)/python -m pip install --quiet -e ".[silicon]"
	$(BIN)/python benchmarks/draw_kernel_sample.py
	$(BIN)/python benchmarks/store_accuracy.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) dist build docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
