# The host of Python without nginx: build/host/host, and the same under
# AddressSanitizer with UBSan, and under ThreadSanitizer.

BUILD         ?= build
PYTHON        ?= /usr/bin/python3.11
PYTHON_CONFIG ?= $(PYTHON)-config

comma := ,
O     := $(BUILD)/host

HOST_SRC := $(sort $(wildcard t/host/*.c src/core/*.c src/bridge/*.c \
              src/route/*.c src/obs/*.c src/json/*.c src/json/*.cc \
              src/scalar/*.c src/crud/*.c src/crud/*.cc src/store/*.c \
              src/python/*.c))
HOST_H   := $(wildcard t/host/*.h src/*/*.h src/*/*/*.h)

HOST_FLAGS := -g -O2 -fno-omit-frame-pointer -D_GNU_SOURCE -Isrc -It/host \
              -Wall -Wextra -Wno-unused-parameter -Werror
HOST_PY    := $(shell $(PYTHON_CONFIG) --includes)
HOST_LIBS  := -lsqlite3 -lsimdjson -lre2 -lstdc++ -lm \
              $(shell $(PYTHON_CONFIG) --embed --ldflags) -lpthread

.PHONY: hosts
hosts: $(O)/host $(O)/host-asan $(O)/host-tsan

# $(call HOST,name,flags)
define HOST
$(O)/$(1): $(patsubst %,$(O)/$(1).o/%.o,$(HOST_SRC))
	@echo "databridge: linking $$@"
	@$(CC) $(2) -rdynamic -o $$@ $$^ $(HOST_LIBS)

$(O)/$(1).o/%.c.o: %.c $(HOST_H)
	@mkdir -p $$(@D)
	@$(CC) -std=gnu11 $(HOST_FLAGS) $(HOST_PY) $(2) -c -o $$@ $$<

$(O)/$(1).o/%.cc.o: %.cc $(HOST_H)
	@mkdir -p $$(@D)
	@$(CXX) -std=c++17 $(HOST_FLAGS) $(2) -c -o $$@ $$<
endef

$(eval $(call HOST,host,))
$(eval $(call HOST,host-asan,-fsanitize=address$(comma)undefined))
$(eval $(call HOST,host-tsan,-fsanitize=thread))
