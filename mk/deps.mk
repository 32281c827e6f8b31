# What has to be there before anything is built: Debian packages, then a venv.
# Both steps look first and do nothing, offline as well, when all is there.

RUN_PACKAGES := nginx nginx-dev gcc g++ libc6-dev pkg-config libsqlite3-dev \
                libsimdjson-dev libre2-dev libwslay-dev libmongoc-dev curl
ifeq ($(PYTHON),/usr/bin/python3.11)
RUN_PACKAGES += python3.11 python3.11-dev python3.11-venv
endif

# netbase: CPython's tests look up the service http

TEST_PACKAGES  := openssl libcmocka-dev clang-14 libclang-rt-14-dev strace \
                  libpython3.11-testsuite netbase maven default-jdk-headless \
                  chromium
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

# pyproject.toml says what is needed; setuptools builds the package itself.

PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# $(call require,EXTRAS)
require = $(PY) mk/requirements.py $(1) | $(PIP) -r /dev/stdin

$(BUILD)/stamps/venv: pyproject.toml mk/requirements.py | check-python
	@mkdir -p $(@D)
	@test -x $(PY) || { echo "databridge: making $(VENV)"; \
	    $(PYTHON) -m venv $(VENV); }
	@echo "databridge: installing the Python packages it needs"
	@$(PIP) 'pip>=23' 'setuptools>=68' 'wheel>=0.40'
	@$(call require,)
	@touch $@

$(BUILD)/stamps/venv-test: $(BUILD)/stamps/venv
	@echo "databridge: installing the Python packages of the tests"
	@$(call require,test bench)
	@touch $@

$(BUILD)/stamps/venv-peers: $(BUILD)/stamps/venv-test
	@echo "databridge: installing the servers it is measured against"
	@$(call require,peers)
	@touch $@

# It wants a uvloop of its own choice, so it has a place of its own.

$(BUILD)/stamps/venv-robyn: $(BUILD)/stamps/venv
	@echo "databridge: making $(BUILD)/venv-robyn"
	@$(PYTHON) -m venv $(BUILD)/venv-robyn
	@$(PY) mk/requirements.py robyn | $(BUILD)/venv-robyn/bin/python -m pip \
	    install --quiet --disable-pip-version-check -r /dev/stdin
	@touch $@

.PHONY: check-python
check-python:
	@sh mk/check.sh python
