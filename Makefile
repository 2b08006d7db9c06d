# Two commands do all the set-up: `make train` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
OLD_HYDRA := .venv/with-hydra-1.3
OLDEST := .venv/with-oldest
TORCH ?= $(shell sed -n 's/^torch==//p' constraints-oldest.txt)

.PHONY: setup train test test-slow test-commands test-faults test-random test-hydra-1.3 test-oldest lint docs tensorboard clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

train: setup
	$(BIN)/python train.py model=conv_vae data=mnist

# Without the tests that train for minutes each: those are `make test-slow`. A core and a thread for each worker.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow --timeout=3600

# The slow tests of the installed command and of launchers, for which nothing else stands in.
test-commands: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --timeout=1800 -n 2 --dist load tests/commands tests/sweeps

# The checks of docs/reliability.md, with all of their tries.
test-faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -n 2 --dist loadfile

# Properties on input that is new in every run, for a nightly job: a failure prints what reproduces it.
test-random: setup
	NELBO_PROPERTIES=random OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/properties -n 2

# The core's tests with Hydra 1.3 and without the sweep extra, whose packages need 1.4.
$(OLD_HYDRA)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLD_HYDRA)
	grep -viE '^(hydra|omegaconf|antlr)' constraints.txt > $(OLD_HYDRA)/constraints.txt
	$(OLD_HYDRA)/bin/python -m pip install --quiet --constraint $(OLD_HYDRA)/constraints.txt --editable '.[test]' \
		hydra-core==1.3.8 omegaconf==2.3.1
	touch $@

test-hydra-1.3: $(OLD_HYDRA)/.installed
	OMP_NUM_THREADS=1 $(OLD_HYDRA)/bin/python -m pytest --quiet -m "not slow" -n 2 --dist loadfile \
		tests/composing tests/running/test_train.py tests/faults/test_bad_config.py tests/faults/test_sweep_failure.py \
		tests/sweeps/test_sweep.py

# Tests of mathematics, configs, runs and checkpoints with the oldest versions that pyproject.toml allows.
# TORCH=2.13.0 takes that version of torch, and the oldest of everything else. Without the recorded scores of checkpoints:
# a flow of zuko 1.4 differs from one of later versions by up to 0.03 nats.
$(OLDEST)/.installed-torch-$(TORCH): pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	grep -v '^torch==' constraints-oldest.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable '.[test]' torch==$(TORCH)
	rm -f $(OLDEST)/.installed-torch-*
	touch $@

test-oldest: $(OLDEST)/.installed-torch-$(TORCH)
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest --quiet -m "not slow" -n 2 --dist loadfile \
		tests/distributions tests/heads tests/priors tests/nets tests/objectives tests/composing/test_configs.py \
		tests/running/test_train.py tests/checkpoints tests/test_requirements.py \
		--deselect tests/checkpoints/test_recorded_scores.py::test_checkpoints_give_the_recorded_scores

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation as a site, in site/; a warning is an error. site/index.html can be opened as it is; the search needs
# a server: `python -m http.server --directory site`.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

tensorboard: setup
	$(BIN)/tensorboard --logdir outputs

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
