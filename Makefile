# One-line entry points. `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
# One process a core; threads of several would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo demo-all test test-all lint parity bench docs clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $(READY)

demo: $(READY)  ## train a decoder on real text in under 3 minutes and show what it learnt
	$(BIN)/zoo fit --config quickstart/decoder

demo-all: demo  ## also an encoder and an encoder-decoder
	$(BIN)/zoo fit --config quickstart/encoder
	$(BIN)/zoo fit --config quickstart/encoder-decoder

test: lint  ## what every change must pass
	$(PYTEST) -m 'not slow and not gpu'

test-all: test  ## also kills, matrices, fresh clones, versions
	$(BIN)/python -m pytest -m 'slow and not gpu'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

parity: $(READY)  ## every family beside its reference; writes docs/parity.md
	$(BIN)/python -m pytest tests/plugins -k 'parity or gradient' --ledger docs/parity.md

bench: $(READY)  ## figures; the last line of each benchmark is JSON
	for f in benchmarks/*.py; do $(BIN)/python $$f || exit 1; done

docs: $(READY)  ## the site, in site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv dist runs site .mypy_cache .ruff_cache .pytest_cache
