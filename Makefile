# One command per job; `make` lists them. Paths are relative, so a folder with spaces works.

PYTHON := .venv/bin/python
PYTEST_WORKERS ?= 2
UV_COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --quiet pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo clean-demo test lint venv venv-demo lock bench badinputs chaos mutants audit sbom docs-test screenshots

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

demo: venv-demo ## start everything on this machine, with demo data: http://127.0.0.1:3000
	@exec $(PYTHON) manage.py up --demo

clean-demo: ## stop the demo and remove its data (.stripemeter/)
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m stripemeter.runtime clean; else rm -rf .stripemeter; fi

test: venv ## run the tests on a PostgreSQL and a Redis of their own
	$(PYTHON) -m pytest -n $(PYTEST_WORKERS) --dist loadgroup $(PYTEST_ARGS)

lint: venv ## ruff, mypy --strict, import-linter, missing migrations
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy manage.py stripemeter ledger counters billing reconciliation widget
	.venv/bin/lint-imports
	STRIPEMETER_ENV=test STRIPEMETER_IGNORE_RUNTIME=1 $(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	STRIPEMETER_ENV=test STRIPEMETER_IGNORE_RUNTIME=1 $(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run djstripe

audit: venv ## known vulnerabilities of the locked dependencies
	@$(PYTHON) ops/scripts/audit.py

sbom: venv ## list what the server is made of: build/sbom.cdx.json (CycloneDX)
	@mkdir -p build
	@.venv/bin/cyclonedx-py requirements requirements.lock --output-reproducible --of JSON -o build/sbom.cdx.json
	@echo "build/sbom.cdx.json written"

screenshots: venv ## every page, light and dark, 1600 and 360 px, into screenshots/
	$(PYTHON) -m tests.browser.screenshots $(SCREENSHOTS_ARGS)

badinputs: venv ## send every bad request of the catalogue (../shared) to a live server
	$(PYTHON) -m pytest tests/badinputs -n 0 -rs -p no:randomly

docs-test: venv ## run the documentation's runnable blocks, links and tables against the code
	$(PYTHON) -m pytest tests/docs tests/tidy/test_docs.py -n 0 -p no:randomly $(PYTEST_ARGS)

bench: venv ## measure ingest, freshness and reads on this machine
	$(PYTHON) -m bench $(BENCH_ARGS)

chaos: venv ## play N (default 200) random histories of counters, and of pushes; SEED=… repeats
	CHAOS_HISTORIES=$(or $(N),200) $(PYTHON) -m pytest tests/properties/test_counter_machine.py -q -s -n 0 \
	  $(if $(SEED),--hypothesis-seed=$(SEED)) $(PYTEST_ARGS)
	CHAOS_PUSH_HISTORIES=$(or $(N),200) $(if $(SEED),CHAOS_SEED=$(SEED)) $(PYTHON) -m pytest tests/chaos -q -s -n 0 \
	  -p no:randomly $(PYTEST_ARGS)

mutants: venv ## plant the seeded bugs one by one; the suite must catch each
	$(PYTHON) -m tests.mutants $(MUTANTS)

venv: ## make or refresh .venv with everything the tests and tools need
	@sh ops/scripts/venv.sh requirements-dev.lock

venv-demo:
	@sh ops/scripts/venv.sh requirements.lock

lock: ## resolve the dependencies of pyproject.toml anew into requirements*.lock
	$(UV_COMPILE) --group server -o requirements.lock
	$(UV_COMPILE) --group dev -o requirements-dev.lock
