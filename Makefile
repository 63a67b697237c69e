# SPDX-License-Identifier: Apache-2.0
# GNU make 3.81 is enough. Every verb builds what it needs first, from a clean copy, into .venv.

SHELL = /bin/sh
BIN = .venv/bin

# The suite imports the installed swd, never the tree beside it: it runs in a folder that holds no swd, so that processes
# which it starts find the installed one as well. tests/conftest.py asserts it.
WHERE = tests
SUITE = mkdir -p .build/path && ln -sfn ../../tests .build/path/tests && cd .build/path && \
	PYTHONPATH='$(CURDIR)/.build/path' SWD_TEST_HOME='$(CURDIR)/.venv' PATH='$(CURDIR)/$(BIN)':"$$PATH" \
	$(CURDIR)/$(BIN)/pytest -c '$(CURDIR)/pyproject.toml' --rootdir='$(CURDIR)'

.PHONY: help build demo test test-deps lint types cover pages matrix mutants endurance new-project clean
.PHONY: soak soak-plan soak-control
.PHONY: conformance
.PHONY: bench bench-quick bench-micro bench-instructions
.PHONY: fuzz fuzz-short sanitize valgrind

help:
	@echo 'make demo [DEV=iscsi://...]  the story, on an embedded target; with DEV: read-only, on yours'
	@echo 'make test [WHERE=tests/cli]  the suite, as far as this machine allows; says what was absent'
	@echo 'make test-deps               as root: add the real components that the suite can use'
	@echo 'make lint | types            style, licences of the extras | mypy --strict, stubs against compiled modules'
	@echo 'make cover | bench           coverage, .pyx lines too | swd beside its peers, 25 minutes: bench/results/'
	@echo 'make bench-quick             a minute of it, to see that it runs; make bench ARGS=--headline: eight'
	@echo 'make bench-micro             CRC, framing, window, text keys, login: one by one, by pytest-benchmark'
	@echo 'make bench-instructions      instructions per I/O, by callgrind: ARGS="--way sync --write --digests --size 1M"'
	@echo 'make pages                   write again the pages that are made from tables: docs/ioctl.md, docs/states.md, man/...'
	@echo 'make conformance             all of iscsi-test-cu against the embedded target, on many kinds of units; 5 minutes'
	@echo 'make matrix | mutants        the interoperability table with 64 MiB a row | planted faults must be found'
	@echo 'make soak | soak-control     as root: I/O under faults for ARGS="--seconds N --seed N" | lying targets are caught'
	@echo 'make soak-plan               I/O under fault plans, every kind: ARGS="--faults N --target tgt|lio"'
	@echo 'make endurance               eight processes on one unit; 10,000 opens: ARGS="--seconds N --opens N"'
	@echo 'make fuzz | fuzz-short       search with coverage for FUZZ_SECONDS (600), ARGS=TARGET... | a few seconds, for CI'
	@echo 'make new-project             the pytest plugin from an empty folder, as a new user installs it'
	@echo 'make sanitize | valgrind     the suite with Address- and UndefinedBehaviorSanitizer | a part of it under valgrind'
	@echo 'make clean                   remove all that make made'

build:
	@python=$$(tools/preflight) && exec "$$python" tools/build.py

demo: build
	@exec $(BIN)/swdctl demo $(DEV)

test: build
	@$(SUITE) '$(CURDIR)/$(WHERE)' $(ARGS)

test-deps:
	@tools/test-deps

lint: build
	@$(BIN)/ruff check --quiet --output-format concise .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint swd
	@$(BIN)/python tools/licences.py

types: build
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python tools/stubs.py

cover: build
	@tools/cover $(ARGS)

bench: build
	@exec $(BIN)/python bench/run.py $(ARGS)

bench-quick: build
	@exec $(BIN)/python bench/run.py --quick --out .build/bench/quick

bench-micro: build
	@exec $(BIN)/pytest -c /dev/null --rootdir bench/micro -p no:cacheprovider --benchmark-columns=min,median,max,rounds --benchmark-sort=name bench/micro $(ARGS)

bench-instructions: build
	@exec $(BIN)/python bench/instructions.py $(ARGS)

pages: build
	@for page in ioctl_doc options_table states_doc faults_doc man_page; do $(BIN)/python tools/$$page.py || exit 1; done

conformance: build
	@exec $(BIN)/python tools/conformance.py

matrix: build
	@exec $(BIN)/python tools/matrix.py $(ARGS)

mutants: build
	@exec nice $(BIN)/python tools/mutants.py $(ARGS)

soak: soak-control
	@exec $(BIN)/python tools/soak.py $(ARGS)

soak-plan: soak-control
	@exec $(BIN)/python tools/soak_plan.py $(ARGS)

soak-control: build
	@$(BIN)/python tools/soak_plan.py --control
	@exec $(BIN)/python tools/soak.py --control --seconds 10

endurance: build
	@exec $(BIN)/python tools/endurance.py $(ARGS)

fuzz: build
	@exec nice -n 19 $(BIN)/python fuzz/run.py $(ARGS)

fuzz-short: build
	@FUZZ_SECONDS="$${FUZZ_SECONDS:-12}" exec $(BIN)/python fuzz/run.py --short $(ARGS)

new-project: build
	@exec $(BIN)/python tools/new_project.py

sanitize: build
	@exec nice $(BIN)/python tools/sanitize.py $(ARGS)

valgrind: build
	@exec nice $(BIN)/python tools/valgrind.py $(ARGS)

clean:
	@rm -rf .venv .build build dist htmlcov .coverage .coverage.* *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@rm -f swd/*.so swd/_crc32c.c swd/_engine.c swd/_fastpath.c swd/_asyncqueue.c swd/_targetpath.c swd/_rangelock.c swd/_straight.c swd/_asyncdisk.c
	@find swd tests bench fuzz tools -name __pycache__ -type d -prune -exec rm -rf {} +
