# make run    from nothing to job ads matched with ESCO skills
# make quick  the same with the encoders as they come: nothing is trained, ranking and calibration are fitted
# make best   the full recipe, for the best weights; can be stopped and started again
# make lab    JupyterLab with the notebook to explore a model in
# make test   the whole test suite, in the order CI runs it
# make docs   the documentation site in _docs/
# make wheel-model  pack a model folder as an installable package (MODEL=outputs/esco/model)
# make clean  remove what make made (the small runs of the tests too), except the downloads in data/ and the runs in outputs/

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || echo python3)
RUN ?= outputs/esco
SOURCE ?= esco
MODEL ?= $(RUN)/model
BIN := .venv/bin
INPUTS := setup.py settings.ini constraints.txt scripts/install.py

.PHONY: run quick best lab test docs wheel-model clean help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: .venv/installed
	@$(BIN)/jobmatch fetch
	@$(BIN)/jobmatch run --run $(RUN) --source $(SOURCE) $(RECIPE) $(SETTINGS)
	@$(BIN)/jobmatch match examples/ads/* --model $(RUN)/model --top-n 5

quick: RUN := outputs/quick
quick: RECIPE := -p epochs=0 -p cross_data.max_sentences=300 -p cross_data.max_lines=0
quick: run

best: RUN := outputs/best
best: RECIPE := -p bi_train.epochs=3 -p bi_train.dropout=0.1 -p cross_train.max_pairs=0 -p cross_data.max_lines=16000
best: run

lab: .venv/installed
	@$(BIN)/jupyter lab nbs/explore.ipynb

test: .venv/installed-test
	@$(BIN)/python scripts/check.py

docs: .venv/installed-test
	@$(BIN)/python scripts/docs.py

wheel-model: .venv/installed
	@$(BIN)/python scripts/wheel_model.py $(MODEL)

clean:
	rm -rf outputs/tiny-* .venv _docs _proc build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: $(INPUTS)
	@$(PYTHON) scripts/install.py
	@touch $@

.venv/installed-test: .venv/installed
	@$(PYTHON) scripts/install.py live dev
	@touch $@
