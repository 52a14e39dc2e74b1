# The targets that CI, pre-commit and people call. `python3 bootstrap.py test` comes first: it makes .venv.
BIN := .venv/bin

.PHONY: setup test readers lint format types imports docs check bench

setup test:
	python3 bootstrap.py test

# Libraries that cap numpy or Pillow read our exports in an environment of their own.
readers: .venv-readers
	$(BIN)/pytest tests/apps/formats/test_capped_readers.py

.venv-readers:
	python3 -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check datumaro label-studio-sdk || (rm -r $@; exit 1)

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

# The site, in build/site; a broken link or an unknown name is an error.
docs:
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: test lint types imports docs

bench:
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/crf.py
	$(BIN)/python benchmarks/walk.py
	$(BIN)/python benchmarks/voc_animals.py --runs bench-runs
	$(BIN)/python benchmarks/cams.py --runs bench-runs
	$(BIN)/python benchmarks/refinement.py --runs bench-runs
	$(BIN)/python benchmarks/label.py
	$(BIN)/python benchmarks/segmentation.py --runs bench-runs
