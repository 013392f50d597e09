# Everything here works from a bare checkout: the targets first make the virtual environment they need.
# Paths are relative, so that a checkout may lie anywhere, also below a folder with a space in its name.

PYTHON = python3
VENV = .venv
ARGS =
SEEDS = 20

RUN = "$(VENV)/bin/python"
UV = uv==0.13.9

# What the caller's shell has set up for another environment.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONNOUSERSITE CDPATH

.PHONY: help demo demo-seeds test check coverage format bench soak lock clean python demo-env test-env bench-env dev-env
.NOTPARALLEL:

help:
	@echo "make demo        run the rolling-deploy demo           ARGS='--help' passes options on to it"
	@echo "make demo-seeds  run it with kills and pauses          SEEDS=20 random seeds in a row"
	@echo "make test        run the tests                         ARGS='-k mailbox' passes options on to pytest"
	@echo "make check       lint, types, arrows, wheel"
	@echo "make coverage    run the tests and say what they do not reach"
	@echo "make format      let ruff put in order what it can"
	@echo "make bench       run the benchmarks                   ARGS=otp runs only that one, ARGS=sqlite the other"
	@echo "make soak        run the long tests, too, with random examples"
	@echo "make lock        bring requirements/ in line with pyproject.toml   ARGS=--upgrade takes the newest versions"
	@echo "make clean       remove the virtual environment and what tools left behind"
	@echo
	@echo "Another Python:  make test PYTHON=python3.13 VENV=.venv-3.13"

demo: demo-env
	@$(RUN) -m examples.rolling_deploy $(ARGS)

demo-seeds: demo-env
	@seed=1; while [ $$seed -le $(SEEDS) ]; do \
	  echo "-- Seed $$seed of $(SEEDS)"; \
	  $(RUN) -m examples.rolling_deploy --jobs 16 --expect-resumed 1 --faults kill,pause --seed $$seed $(ARGS) || exit 1; \
	  seed=$$((seed + 1)); \
	done

test: test-env
	@$(RUN) -m pytest $(ARGS)

check: dev-env
	@echo "-- ruff"
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@echo "-- mypy"
	@$(RUN) -m mypy
	@echo "-- pyright"
	@$(RUN) -m pyright --pythonpath $(RUN)
	@echo "-- import-linter"
	@"$(VENV)/bin/lint-imports" --no-logo
	@echo "-- wheel"
	@rm -rf build/wheel
	@$(RUN) -m hatchling build --target wheel --directory build/wheel
	@$(RUN) -m check_wheel_contents build/wheel

coverage: dev-env
	@$(RUN) -m coverage erase
	@$(RUN) -m coverage run -m pytest $(ARGS)
	@$(RUN) -m coverage combine --quiet
	@$(RUN) -m coverage report

format: dev-env
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: bench-env
	@$(RUN) -m benchmarks $(ARGS)

soak: test-env
	@HYPOTHESIS_PROFILE=soak $(RUN) -m pytest -m "soak or not soak" $(ARGS)

# The larger lock decides, so that all can share one environment. Pins stay as they are where they still fit.
COMPILE = "$(VENV)/bin/uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet \
  --no-emit-index-url --no-emit-package holdfast --annotation-style line --custom-compile-command "make lock" $(ARGS)

lock: dev-env
	@$(RUN) -m pip install --quiet $(UV)
	@$(COMPILE) --all-extras --group dev --output-file requirements/dev.txt
	@$(COMPILE) --all-extras --group test --constraints requirements/dev.txt --output-file requirements/test.txt
	@$(COMPILE) --all-extras --group bench --constraints requirements/dev.txt --output-file requirements/bench.txt
	@$(COMPILE) --extra demo --constraints requirements/dev.txt --output-file requirements/demo.txt
	@git diff --stat -- requirements

clean:
	rm -rf .venv .venv-* build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

demo-env: python
	@"$(PYTHON)" tools/environment.py "$(VENV)" requirements/demo.txt

test-env: python
	@"$(PYTHON)" tools/environment.py "$(VENV)" requirements/test.txt --project

bench-env: python
	@"$(PYTHON)" tools/environment.py "$(VENV)" requirements/bench.txt --project

dev-env: python
	@"$(PYTHON)" tools/environment.py "$(VENV)" requirements/dev.txt --project

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || \
	  { echo "There is no '$(PYTHON)' here. Python 3.11 or later is needed: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1). Python 3.11 or later is needed: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
