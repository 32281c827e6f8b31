# What has to be there before anything is built: Debian packages, then a venv.
# Both steps look first and do nothing, offline as well, when all is there.

RUN_PACKAGES := nginx nginx-dev gcc g++ libc6-dev pkg-config libsqlite3-dev \
                libsimdjson-dev libre2-dev curl
ifeq ($(PYTHON),/usr/bin/python3.11)
RUN_PACKAGES += python3.11 python3.11-dev python3.11-venv
endif

TEST_PACKAGES  := libcmocka-dev clang-14 libclang-rt-14-dev strace
BENCH_PACKAGES := wrk
FRESH_PACKAGES := debootstrap

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# $(call install,PACKAGES)
install = @SUDO="$(SUDO)" sh mk/packages.sh $(1)

#: make deps        installs missing Debian packages, makes build/venv
deps: packages $(BUILD)/stamps/venv

.PHONY: packages packages-test packages-bench packages-fresh
packages:
	$(call install,$(RUN_PACKAGES))

packages-test:
	$(call install,$(RUN_PACKAGES) $(TEST_PACKAGES))

packages-bench:
	$(call install,$(RUN_PACKAGES) $(BENCH_PACKAGES))

packages-fresh:
	$(call install,$(FRESH_PACKAGES))

# The tools that build the package, then what it needs at run time.

$(BUILD)/stamps/venv: pyproject.toml | check-python
	@mkdir -p $(@D)
	@test -x $(PY) || { echo "databridge: making $(VENV)"; \
	    $(PYTHON) -m venv $(VENV); }
	@echo "databridge: installing the Python packages it needs"
	@$(PY) -m pip install --quiet --disable-pip-version-check \
	    'pip>=23' 'setuptools>=68' 'wheel>=0.40'
	@$(PY) mk/requirements.py | xargs -d '\n' $(PY) -m pip install --quiet \
	    --disable-pip-version-check
	@touch $@

$(BUILD)/stamps/venv-test: t/requirements.txt $(BUILD)/stamps/venv
	@echo "databridge: installing the Python packages of the tests"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: check-python
check-python:
	@sh mk/check.sh python
