# Everything runs in .venv, which the first target that needs it sets up.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: reproduce test stress bench lint clean

reproduce: .venv/ready  ## the whole job on the made-up miniature corpus
	rm -rf runs/miniature
	$(BIN)/python train.py --run runs/miniature
	$(BIN)/python evaluate.py runs/miniature

test: .venv/ready-dev lint  ## linter and test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

stress: .venv/ready-dev  ## random kills and thousands of fuzz cases; says what it compared
	$(BIN)/python -m pytest -s -m "stress or fuzz" --hypothesis-profile stress --hypothesis-show-statistics

bench: .venv/ready  ## speed and memory of every part, into benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.bench

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/ready: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:  ## the environment and all runs
	rm -rf .venv runs
