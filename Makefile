# Two commands: `make quickstart` does the main job from shipped models, `make test` runs the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# libgomp's spinning threads starve one another on small machines; implicit warns without the second
export OMP_WAIT_POLICY := PASSIVE
export OPENBLAS_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1

.PHONY: quickstart figures quickstart-from-scratch test test-browser check movielens demo words clean-runs

quickstart: $(BIN)/.installed
	$(BIN)/ulrec run --config configs/quickstart.yaml

quickstart-from-scratch: $(BIN)/.installed
	$(BIN)/ulrec run --config configs/quickstart_from_scratch.yaml

figures: quickstart
	$(BIN)/ulrec curve --config configs/quickstart.yaml
	$(BIN)/ulrec report --config configs/quickstart.yaml
	$(BIN)/python examples/benchmarks/figures.py --run runs/quickstart --out examples

movielens: $(BIN)/.installed
	$(BIN)/python datasets/movielens/prepare.py --source $(or $(SOURCE),../shared/data/movielens-100k) --out runs/data/movielens
	$(BIN)/ulrec run --config configs/movielens.yaml

demo: $(if $(RUN),$(BIN)/.installed,words)
	$(BIN)/pip install -q -c configs/constraints.txt -e '.[demo]'
	$(BIN)/ulrec demo --run $(or $(RUN),runs/quickstart)

# What the demo's text box takes: embeddings of the quickstart's items by a CLIP model that ships.
words: quickstart
	$(BIN)/pip install -q -c configs/constraints.txt -e '.[clip]'
	$(BIN)/ulrec text-features --config configs/quickstart.yaml text.pretrained=emoji_clip

# two workers of one thread each: on two cores faster than one worker of two
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-browser: $(BIN)/.installed-dev
	$(BIN)/pip install -q -c configs/constraints.txt playwright
	command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy chromium; } \
		|| { echo "there is no chromium: install it (Debian: apt-get install chromium)"; exit 1; }
	$(BIN)/pytest -m browser tests/browser

check: $(BIN)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell ulrec tests configs datasets examples README.md
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/.installed: pyproject.toml configs/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c configs/constraints.txt -e .
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/pip install -q -c configs/constraints.txt -e '.[dev]'
	touch $@

clean-runs:
	rm -rf runs
