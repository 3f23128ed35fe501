# Everything runs from .venv, which is built from the hash-pinned requirements and nothing else.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Most of the time most tests wait for something: three share two cores well. Each has a stretch of the files, so that
# tests that load the machine, which stand together, run one after the other; who has done with his takes from the rest.
SIDE_BY_SIDE := -n 3 --dist worksteal

.PHONY: demo test check cover bench bench-stages arm systemd locale lock clean

demo: .venv/ready
	$(BIN)/trambien demo $(DEMO)

test: .venv/ready
	@sh tests/need-mosquitto.sh
	@sh tests/need-tools.sh
	@sh tests/need-faketime.sh
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) $(TEST)

# What .ci/run adds to the tests: style, types, floors, and coverage.
check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The test command with branch coverage: 95 % in all, 100 % in the buffer.
cover: .venv/ready
	@$(MAKE) --no-print-directory test TEST="--cov --cov-report=term:skip-covered"
	@$(BIN)/coverage report --include='buffer/*' --fail-under=100 >.coverage-buffer || { cat .coverage-buffer; exit 1; }

# Speed and footprint against DESIGN's budgets, ten minutes at most; needs mosquitto and an idle machine. Results go to
# build/bench, and the table into docs/performance.md. BENCH="--only nominal" measures a part.
bench: .venv/ready
	@sh tests/need-mosquitto.sh
	PYTHONPATH=tests $(BIN)/python -m speed.bench $(if $(BENCH),$(BENCH),--docs docs/performance.md)

# The pure stages alone, to compare two states of the code; BENCH="--benchmark-compare" and the like are pytest-benchmark's.
bench-stages: .venv/ready
	$(BIN)/python -m pytest -q -m speed tests/speed/test_stages.py $(BENCH)

# On an emulated Arm, from a Debian made for it: installs as README says, shows, verifies, tests. Root, and half an hour or
# more; ARM="armhf bookworm" is the default, ARM="armhf trixie" and ARM="arm64 bookworm" are others. See tests/arm.sh.
arm:
	sh tests/arm.sh $(ARM)

# As it is installed: README's commands in a Debian of its own, whose systemd starts, watches and restarts it. Root, five minutes.
systemd:
	sh tests/systemd.sh

locale: .venv/ready
	$(BIN)/pybabel -q compile --directory config/locale --domain "$(notdir $(basename $(wildcard config/locale/en/LC_MESSAGES/*.po)))"

.venv/ready: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Trambien needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-dev.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation --editable .
	@touch $@

# Pins again what pyproject.toml asks for; needs uv. Hashes only: no registry is named.
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet
lock:
	$(LOCK) -o requirements.txt
	$(LOCK) --extra demo --group dev -o requirements-dev.txt
	$(MAKE) --no-print-directory requirements-armhf.txt requirements-build.txt

# For 32-bit Arm: without what Debian gives there, since no wheel does.
requirements-armhf.txt: requirements.txt
	awk '/^[a-z]/ { keep = !/^(cffi|pycparser|zstandard)==/ } keep' $< >$@

# What makes the package from a checkout: hatchling and what it needs, as pinned for us.
requirements-build.txt: requirements-dev.txt
	awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' $< >$@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
