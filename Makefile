# make demo | test | test-long | lint | fmt | docs | estimates | notebooks | contract | check-engines | clean
#
# Every target makes .venv first when it is missing or older than pyproject.toml.
# PYTHON    the Python (3.11 or newer) to build .venv from
# PIP_ARGS  further options for pip, for instance another index for a CPU-only torch

PYTHON ?= python3
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long lint fmt docs notebooks contract check-engines clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	@mkdir -p demo
	$(BIN)/smartprof fetch smollm2
	$(BIN)/smartprof calibrate --gpu auto --mode quick --budget 60 --out demo/profile.json --force
	$(BIN)/smartprof decode --profile demo/profile.json --policy plain,chain,eagle2,smart \
		--batch 1,4 --split held-out --per-category 1 --mixed --max-new-tokens 64 \
		--json demo/report.json --plot demo/speedup.png --force

test: lint
	$(BIN)/python -m pytest

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The JSON Schema of profiles and the conformance vectors, from the code as it stands.
contract: $(STAMP)
	$(BIN)/python tools/write_profile_schema.py
	$(BIN)/python -m tests.conformance.generate

# The generated parts of docs/ and profiles/README.md, from what they describe as it stands.
docs: $(STAMP)
	$(BIN)/python tools/write_cli_reference.py
	$(BIN)/python tools/write_policy_options.py
	$(BIN)/python tools/write_profile_table.py
	$(BIN)/python tools/write_gpu_plans.py

# The shipped estimates anew, after a change of their formulas or of the profile format.
.PHONY: estimates
estimates: $(STAMP)
	for device in a100 l40s h200; do rm -f profiles/$$device.json; \
		$(BIN)/smartprof estimate --device $$device --target Llama-3.1-8B \
		--drafter EAGLE3-Llama-3.1-8B --out profiles/$$device.json || exit 1; done

# Runs every notebook and keeps its outputs in it.
notebooks: $(STAMP)
	$(BIN)/python tools/run_notebooks.py

# What the exports write, against the code of released engines (downloads their wheels).
check-engines: $(STAMP)
	PYTHONPATH=. $(BIN)/python tools/check_engines.py

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is missing: install it with 'apt-get install python3 python3-venv'"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: name a newer one with 'make PYTHON=python3.x'"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: run 'apt-get install python3-venv'"; exit 1; }
	@if [ "$$(uname -s)" = Linux ] && [ ! -e /proc/driver/nvidia/version ] && [ -z "$(PIP_ARGS)" ]; \
		then echo "No NVIDIA driver here: the README tells how PIP_ARGS gets a CPU-only torch."; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
		-c constraints.txt -e '.[dev]'
	@touch $@
