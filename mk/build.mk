# The module, against the tree of nginx-dev, and the package with PyLoop.

WARNINGS := -Wall -Wextra -Wno-unused-parameter -Werror
CC_OPT   := -O2 -g $(WARNINGS) -fno-semantic-interposition \
            -fstack-protector-strong

SOURCES := $(sort $(wildcard *.c src/*/*.c src/*/*.cc src/*/*.h))

module: $(BUILD)/$(MODULE) python/databridge/$(MODULE)

$(BUILD)/$(MODULE): $(BUILD)/nginx/objs/$(MODULE)
	@ln -f $< $@

python/databridge/$(MODULE): $(BUILD)/$(MODULE)
	@mkdir -p $(@D)
	@ln -sf ../../$< $@

# $(call TREE,directory,compiler options,linker options).  What configure
# depends on is written to a file that changes only when it does.

define TREE
$(1)/objs/$(MODULE): $(1)/objs/Makefile $(SOURCES) databridge.map
	@echo "databridge: compiling $(1)/objs/$(MODULE)"
	@+$$(MAKE) --no-print-directory -s -C $(1) -f objs/Makefile \
	    -j$(JOBS) modules
	@mv $(1)/objs/ngx_databridge_module.so $$@

$(1)/objs/Makefile: $(1)/configured-for
	@echo "databridge: configuring $(1)"
	@cp -R $(NGINX_SRC)/. $(1)/
	@cd $(1) && OPT='$(2)' LD_OPT='$(3)' MODULE_DIR='$(CURDIR)' \
	    bash $(CURDIR)/mk/configure.sh
	@touch $$@

$(1)/configured-for: FORCE
	@sh mk/check.sh module
	@mkdir -p $$(@D)
	@{ $(NGINX) -V; cksum config $(NGINX_SRC)/conf_flags mk/configure.sh; \
	   echo '$(2) $(3)'; $(PYTHON_CONFIG) --includes --ldflags; \
	   echo '$(SOURCES)'; } >$$@.new 2>&1
	@cmp -s $$@.new $$@ && rm $$@.new || mv $$@.new $$@
endef

$(eval $(call TREE,$(BUILD)/nginx,$(CC_OPT),))

.PHONY: FORCE
FORCE:

# Editable, so that the sources are what runs; the console script comes
# with it.  PyLoop and the validation are compiled into python/databridge.

EXTENSIONS := $(wildcard src/pyloop/*.c src/core/*.c src/json/*.c \
                src/json/*.cc src/scalar/*.c src/crud/*.c src/crud/*.cc \
                src/crud/ext/*.c src/store/*.c src/store/ext/*.[ch] \
                src/route/*.c src/*/*.h)

package: $(BUILD)/stamps/package

$(BUILD)/stamps/package: $(BUILD)/stamps/venv setup.py pyproject.toml \
                         $(EXTENSIONS)
	@echo "databridge: building the package"
	@$(PY) setup.py -q build_ext --inplace --parallel $(JOBS) \
	    --build-temp $(BUILD)/extensions
	@test -x $(VENV)/bin/databridge -a $@ -nt pyproject.toml \
	    || $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
