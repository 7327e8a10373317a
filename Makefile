# Everything runs in .venv, which the first target that needs it sets up from the lock files.
PYTHON ?= python3
BIN = .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--strip-extras --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

.PHONY: reproduce demo test stress bench lint lock clean

reproduce: .venv/ready  ## the whole job on the made-up miniature corpus
	rm -rf runs/miniature
	$(BIN)/python train.py --run runs/miniature
	$(BIN)/python evaluate.py runs/miniature

demo: .venv/ready  ## the emotions of a made-up conversation
	$(BIN)/python predict.py --demo

test: .venv/ready-dev lint  ## linters and test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

stress: .venv/ready-dev  ## random kills and thousands of fuzz cases; says what it compared
	$(BIN)/python -m pytest -s -m "stress or fuzz" --hypothesis-profile stress --hypothesis-show-statistics

bench: .venv/ready  ## speed and memory of every part, into benchmarks/RESULTS.md; SCALE=1: a million utterances, too
	$(BIN)/python -m benchmarks.bench

# import-linter takes folders only: each file of the root stands in for a folder of its name.
lint: .venv/ready-dev  ## style, and the layers of pyproject.toml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .venv/layers
	for file in *.py; do folder=.venv/layers/$${file%.py}; \
		mkdir -p $$folder && ln -s "$(CURDIR)/$$file" $$folder/__init__.py || exit 1; done
	cd .venv/layers && PYTHONPATH="$(CURDIR)" ../bin/lint-imports --no-logo --no-cache ../../pyproject.toml

lock: .venv/ready-dev  ## pyproject.toml's requirements into lock files; UPGRADE=--upgrade takes newer ones of the rest
	$(COMPILE) --extra cpu -o requirements.txt
	$(COMPILE) --extra cpu --extra cluster -c requirements.txt -o requirements-cluster.txt
	$(COMPILE) --extra cpu --extra cluster --extra dev -c requirements-cluster.txt -o requirements-dev.txt
	$(COMPILE) --extra gpu -c requirements.txt -o requirements-gpu.txt
	$(COMPILE) --extra encoders -c requirements.txt -o requirements-encoders.txt

.venv/ready: requirements.txt
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	'Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.13' % v)"
	$(PYTHON) -m venv .venv
	$(INSTALL) requirements.txt
	touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	$(INSTALL) requirements-dev.txt
	touch $@

clean:  ## the environment and all runs
	rm -rf .venv runs
