# Tests, benchmarks and checks of the sources.

T      ?= t
PYTEST := env -u BUILD $(PY) -m pytest -c t/pytest.ini

#: make test        every test but the long ones; T=t/test_x.py runs one file
test: packages packages-test $(BUILD)/stamps/venv $(BUILD)/stamps/venv-test \
      $(BUILD)/mongo/Main.class
	@$(MAKE) --no-print-directory build
ifeq ($(T),t)
	@$(MAKE) --no-print-directory check
endif
	@$(MAKE) --no-print-directory -s host
	@$(PYTEST) -m 'not soak' $(SIDE_BY_SIDE) $(T)

# All files of tests go through as many processes as there are cores.

SIDE_BY_SIDE = $(if $(filter t,$(T)),-n $(JOBS) --dist loadfile \
    --no-loadscope-reorder)

#: make soak        the long tests; N=1000000 requests, SOCKETS=100000,
#:                  CALLBACKS=10000000 of PyLoop, FUZZ_SECONDS=3600 for all
#:                  fuzzers side by side; with RATE=1000 T=3600 one alone: a
#:                  load at that rate for T seconds
LOAD = $(shell echo "$(T)" | grep -x '[0-9]*')

soak: packages packages-test $(BUILD)/stamps/venv $(BUILD)/stamps/venv-test \
      $(BUILD)/mongo/Main.class
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory -s host
ifeq ($(T),t)
	@$(MAKE) --no-print-directory -s -j8 -f t/unit/unit.mk fuzz \
	    FUZZ_SECONDS=$(FUZZ_SECONDS)
endif
	@SECONDS_OF_LOAD=$(LOAD) $(PYTEST) -m soak -rP \
	    $(if $(LOAD),t/test_soak.py -k at_a_rate,$(T))

# The unit tests of the pure C rooms, plain and sanitized, a short run of the
# fuzzers, and hosts of the crossing without nginx.

check:
	@$(MAKE) --no-print-directory -s -j$(JOBS) -f t/unit/unit.mk check
	@$(MAKE) --no-print-directory -s -f t/unit/unit.mk fuzz FUZZ_SECONDS=5

.PHONY: host
host:
	@$(MAKE) --no-print-directory -s -j$(JOBS) -f t/host/host.mk

#: make fuzz        the fuzzers, FUZZ_SECONDS each
fuzz: FUZZ_SECONDS ?= 60
soak: FUZZ_SECONDS ?= 3600

fuzz: packages packages-test
	@$(MAKE) --no-print-directory -s -f t/unit/unit.mk fuzz \
	    FUZZ_SECONDS=$(FUZZ_SECONDS)

#: make bench       requests/s, CPU per request and latency beside uvicorn
bench: packages packages-bench $(BUILD)/stamps/venv $(BUILD)/stamps/venv-test
	@$(MAKE) --no-print-directory build
	@PYTHONPATH=t $(PY) -m bench.serving $(BENCH)

#: make bench-crud  the same of native CRUD beside FastAPI with Beanie
bench-crud: packages packages-test packages-bench \
            $(BUILD)/stamps/venv $(BUILD)/stamps/venv-test
	@$(MAKE) --no-print-directory build
	@PYTHONPATH=t $(PY) -m bench.crud $(BENCH)

#: make bench-plans  the same of a FastAPI application beside uvicorn and others
bench-plans: packages packages-test packages-bench $(BUILD)/stamps/venv-peers \
             $(BUILD)/stamps/venv-robyn
	@$(MAKE) --no-print-directory build
	@PYTHONPATH=t $(PY) -m bench.plans $(BENCH)

#: make bench-loop  PyLoop beside uvloop, asyncio and rloop
bench-loop: packages packages-bench $(BUILD)/stamps/venv-peers
	@$(MAKE) --no-print-directory package
	@$(PY) -m bench.loop $(BENCH)

#: make memory      bytes of an idle connection, beside nginx's and uvicorn's
memory: packages packages-bench $(BUILD)/stamps/venv $(BUILD)/stamps/venv-test
	@$(MAKE) --no-print-directory build
	@PYTHONPATH=t $(PY) -m bench.memory $(BENCH)

#: make lint        ruff, mypy --strict, stubtest, the layout of the C sources,
#:                  tables of the documentation
C_FILES = $(shell git ls-files '*.c' '*.h' '*.cc')

lint: $(BUILD)/stamps/package $(BUILD)/stamps/venv-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	MYPYPATH=python $(PY) -m mypy.stubtest --mypy-config-file mypy.ini \
	    databridge._pyloop databridge._crud databridge._store
	@awk -f mk/layout.awk $(C_FILES)
	@$(PY) mk/docs.py --check

#: make docs        writes the tables of README and docs/ that are generated
.PHONY: docs
docs: $(BUILD)/stamps/venv
	@$(PY) mk/docs.py

#: make format      formats the Python sources
format: $(BUILD)/stamps/venv-test
	$(VENV)/bin/ruff check --fix-only --quiet
	$(VENV)/bin/ruff format

#: make fresh       make run and make test in an empty Debian 12; as root
fresh: packages-fresh
	@sh t/fresh.sh
