# Two commands do all the set-up: `make train` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
OLD_HYDRA := .venv/hydra-1.3

.PHONY: setup train test test-slow test-hydra-1.3 lint tensorboard clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

train: setup
	$(BIN)/python train.py model=conv_vae data=mnist

# Without the tests that train for minutes each: those are `make test-slow`.
test: setup
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

# The core's tests with Hydra 1.3 in front of the pinned 1.4.
$(OLD_HYDRA)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(OLD_HYDRA) \
		hydra-core==1.3.8 omegaconf==2.3.1 antlr4-python3-runtime==4.9.3
	touch $@

test-hydra-1.3: $(OLD_HYDRA)/.installed
	PYTHONPATH=$(CURDIR)/$(OLD_HYDRA) $(BIN)/python -m pytest --quiet -m "not slow" \
		tests/test_configs.py tests/test_train.py tests/test_bad_input.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

tensorboard: setup
	$(BIN)/tensorboard --logdir outputs

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
