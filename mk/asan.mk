# The module and PyLoop with AddressSanitizer and UBSan, in the stock nginx,
# and the tests against them; the pure C rooms and the crossing's host have
# sanitized builds of their own.

SANITIZE := -fsanitize=address,undefined

# gcc's flow analysis, and with it some warnings, suffer from the
# instrumentation: the plain build is the one that has none.

ASAN_OPT := -O1 -g -fno-omit-frame-pointer -Wno-error $(SANITIZE)

$(eval $(call TREE,$(BUILD)/asan/nginx,$(ASAN_OPT),$(SANITIZE)))

$(BUILD)/asan/$(MODULE): $(BUILD)/asan/nginx/objs/$(MODULE)
	@ln -f $< $@

$(eval $(call MONGO_DRIVER,$(BUILD)/asan,$(ASAN_OPT) $(SANITIZE)))

# The package by links, beside extensions of its own; first on the path.

$(BUILD)/stamps/asan: $(BUILD)/stamps/package
	@mkdir -p $(BUILD)/asan/python/databridge
	@CFLAGS='$(ASAN_OPT)' LDFLAGS='$(SANITIZE)' $(PY) setup.py -q build_ext \
	    --parallel $(JOBS) --build-lib $(BUILD)/asan/python \
	    --build-temp $(BUILD)/asan/extensions
	@cd $(BUILD)/asan/python/databridge && \
	    ln -sfn $(CURDIR)/python/databridge/*.py* . && \
	    ln -sfn $(CURDIR)/python/databridge/plans $(addprefix ../../,$(MONGO)) .
	@touch $@

#: make asan        the tests under AddressSanitizer, UBSan, ThreadSanitizer
asan: packages packages-test $(BUILD)/stamps/venv $(BUILD)/stamps/venv-test \
      $(BUILD)/mongo/Main.class
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory $(BUILD)/asan/$(MODULE) \
	    $(addprefix $(BUILD)/asan/,$(MONGO)) $(BUILD)/stamps/asan
ifeq ($(T),t)
	@$(MAKE) --no-print-directory check host
endif
	@DATABRIDGE_ASAN=$(BUILD)/asan $(PYTEST) -m 'not soak' \
	    --deselect t/test_build.py $(SIDE_BY_SIDE) $(T)
