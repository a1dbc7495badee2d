# make run    from nothing to matched job ads (first call: about 17 minutes on two cores)
# make test   the whole test suite, in the order CI runs it
# make docs   the documentation site in _docs/
# make clean  remove what make made (the small runs of the tests too), except the downloads in data/ and the runs in outputs/

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || echo python3)
RUN ?= outputs/onet
BIN := .venv/bin
INPUTS := setup.py settings.ini constraints.txt scripts/install.py

.PHONY: run test docs clean help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: .venv/installed
	@$(BIN)/jobmatch fetch
	@$(BIN)/jobmatch run --run $(RUN)
	@$(BIN)/jobmatch match examples/ads/* --model $(RUN)/model --top-n 5

test: .venv/installed-test
	@$(BIN)/python scripts/check.py

docs: .venv/installed-test
	@$(BIN)/python scripts/docs.py

clean:
	rm -rf outputs/tiny-* .venv _docs _proc build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: $(INPUTS)
	@$(PYTHON) scripts/install.py
	@touch $@

.venv/installed-test: .venv/installed
	@$(PYTHON) scripts/install.py live dev
	@touch $@
