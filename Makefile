# Each target sets itself up: `make demo` runs the main job on synthetic rain, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python

.PHONY: demo test check tests test-full clean

# The environment is made anew when what it is made from changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: found Python older than 3.11; set PYTHON to a newer one' >&2; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@# pysteps is built from source: without a C compiler everything else still works.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pysteps,radar]' || \
		echo 'pysteps could not be installed (is there a C compiler?): its methods and tests are left out'
	@# mlcast asks for mlflow, which its networks and training need not have and these versions cannot.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps mlcast && \
		$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt \
		beartype jaxtyping loguru cf-xarray || \
		echo 'mlcast could not be installed: tests of its adapter are left out'
	touch $@

demo: $(VENV)/.ready
	$(RUN) scripts/prepare_data.py synthetic --config configs/demo.yaml
	$(RUN) scripts/prepare_data.py hko7 --config configs/demo.yaml
	$(RUN) scripts/pretrain.py --config configs/demo.yaml --memel
	$(RUN) scripts/finetune.py --config configs/demo.yaml
	$(RUN) scripts/evaluate.py --config configs/demo.yaml
	$(RUN) scripts/render.py --config configs/demo.yaml
	@echo
	@echo 'The forecast beside what was observed:  runs/demo/forecast.gif (and .png)'
	@echo 'Scores, plots, animations on one page:  runs/demo/evaluation/report.html (and .csv, .json, .png)'
	@echo 'Learning curves and checkpoints:        runs/demo/pretrain, runs/demo/finetune'
	@echo 'The rain that it learned from:          data/demo/rain.h5 (made from data/demo/archive)'

test: check tests

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Two processes with one thread each take little more than half the time of one with two.
tests: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=logical --maxprocesses=4

# Whole data sets, long runs, many more examples of everything that is fuzzed: an hour or more.
test-full: check
	$(BIN)/pytest --full --hypothesis-profile=long

clean:
	rm -rf $(VENV) data/demo runs/demo
