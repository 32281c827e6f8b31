# databridge: everything a newcomer needs.  "make help" lists it.
#
# PYTHON and PYTHON_CONFIG name the Python to embed: another one may come
# first on PATH, so neither is searched for there.

PYTHON        ?= /usr/bin/python3.11
PYTHON_CONFIG ?= $(PYTHON)-config
NGINX         ?= /usr/sbin/nginx
NGINX_SRC     ?= /usr/share/nginx/src
BUILD         ?= build
HOST          ?= 127.0.0.1
PORT          ?= 8000
JOBS          ?= $(shell nproc)

VENV   := $(BUILD)/venv
PY     := $(VENV)/bin/python
MODULE := ngx_http_databridge_module.so

export PYTHON PYTHON_CONFIG NGINX NGINX_SRC BUILD
unexport PYTHONPATH PYTHONHOME

.DELETE_ON_ERROR:
.PHONY: build help deps run test soak bench bench-crud bench-plans bench-loop memory lint format asan fuzz \
        fresh clean module package mongo units check

build: module package mongo

help:
	@sed -n 's/^#: //p' Makefile mk/*.mk

include mk/deps.mk
include mk/build.mk
include mk/mongo.mk
include mk/test.mk
include mk/asan.mk

#: make             builds the nginx module and the Python package
#: make run         installs what is missing, builds, serves examples/articles
run: deps
	@$(MAKE) --no-print-directory build
	@echo
	@echo "databridge: serving examples/articles on http://$(HOST):$(PORT)"
	@echo "databridge: try, from another terminal:"
	@echo "  curl http://$(HOST):$(PORT)/"
	@echo "  curl http://$(HOST):$(PORT)/articles -d" \
	      "'{\"title\": \"Hello\", \"text\": \"A first article\"}'"
	@echo "  curl 'http://$(HOST):$(PORT)/articles?limit=5&count=true'"
	@echo
	@exec $(VENV)/bin/databridge run main:app --app-dir examples/articles \
	    --host $(HOST) --port $(PORT)

#: make clean       removes what was built; "make distclean" the venv as well
clean:
	find $(BUILD) -mindepth 1 -maxdepth 1 ! -name venv ! -name stamps \
	    -exec rm -rf {} + 2>/dev/null || true
	rm -f $(BUILD)/stamps/package python/databridge/*.so

.PHONY: distclean
distclean:
	rm -rf $(BUILD) python/databridge/*.so python/*.egg-info
