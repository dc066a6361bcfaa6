# make run     the daemon with the embedded model, on a fresh machine too; ARGS='--mic' are passed on
# make test    everything that has to hold: format, lint, types, tests, coverage; installs what they need
# make check   the same, without installing system packages
# make pictures   the screenshots in docs/pictures, anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a browser for the live page, PortAudio for the microphone, systemd-analyze for the units; the tests of what is missing
# are skipped
SYSTEM_PACKAGES := chromium libportaudio2 systemd
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check pictures system-packages clean

run: $(VENV)/run.stamp
	$(BIN)/streamer serve $(ARGS)

test: system-packages check

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@mkdir -p build
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python tests/coverage_floors.py

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[tiny-en]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/run.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot create environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

system-packages:
	@missing=$$(for package in $(SYSTEM_PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; \
	done); \
	[ -z "$$missing" ] && exit 0; \
	[ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends -o DPkg::Lock::Timeout=300 $$missing || \
		echo "not installed, their tests are skipped:" $$missing

# renews the pictures of the docs, of a real session
pictures: $(VENV)/dev.stamp
	STREAMER_SCREENSHOTS=docs/pictures $(BIN)/python -m pytest -q tests/browser/test_docs_pictures.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
