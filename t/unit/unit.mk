# The unit tests and fuzzers of the pure C rooms, out of tree.
#
#   make -f t/unit/unit.mk check             every t/unit/test_*.c, plain and
#                                            under ASan and UBSan; those named
#                                            *_threads.c under TSan as well
#   make -f t/unit/unit.mk check-NAME        t/unit/test_NAME.c alone
#   make -f t/unit/unit.mk fuzz FUZZ_SECONDS=5   every t/fuzz/fuzz_*.c
#   make -f t/unit/unit.mk bench             bench/store.c
#   make -f t/unit/unit.mk bench-crud        bench/crud.c
#   make -f t/unit/unit.mk bench-metrics     bench/metrics.c

BUILD        ?= build
FUZZ_SECONDS ?= 5
UNIT         := $(BUILD)/unit

CLANG   ?= clang-14
CLANGXX ?= clang++-14

PURE_DIRS := core bridge route obs json scalar crud store ws
PURE_SRCS := $(sort $(foreach d,$(PURE_DIRS),\
               $(wildcard src/$(d)/*.c src/$(d)/*.cc)) \
               $(wildcard src/store/mongo/bson_*.c))
HEADERS   := $(wildcard src/*/*.h src/store/mongo/*.h t/unit/*.h)

TESTS   := $(patsubst t/unit/%.c,%,$(sort $(wildcard t/unit/test_*.c)))
THREADS := $(filter %_threads,$(TESTS))
FUZZERS := $(patsubst t/fuzz/%.c,%,$(sort $(wildcard t/fuzz/fuzz_*.c)))

WARN  := -Wall -Wextra -Wno-unused-parameter -Werror
FLAGS := -g -Isrc -It/unit -pthread
LIBS  := -lsqlite3 -lsimdjson -lre2 -lwslay -lm -pthread

OPT_plain := -O2
OPT_asan  := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
             -fno-sanitize-recover=undefined
OPT_tsan  := -O1 -fsanitize=thread
OPT_fuzz  := -O1 -fsanitize=fuzzer-no-link,address,undefined \
             -fno-sanitize=vptr \
             -fno-sanitize-recover=undefined

ENV_asan := ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
ENV_tsan := TSAN_OPTIONS=halt_on_error=1

CC_plain := gcc
CC_asan  := gcc
CC_tsan  := gcc
CC_fuzz  := $(CLANG)

.DELETE_ON_ERROR:
.PHONY: check fuzz bench bench-crud bench-metrics library
.SECONDARY:

check: $(TESTS:%=run-plain-%) $(TESTS:%=run-asan-%) $(THREADS:%=run-tsan-%)

check-%: run-plain-test_% run-asan-test_%
	@:

fuzz: $(FUZZERS:%=run-%)

# $(call VARIANT,name): objects, the library and the tests of one variant.
# C++ through the same driver: it is chosen by the file's name.

define VARIANT
$(UNIT)/$(1)/%.c.o: src/%.c $(HEADERS)
	@mkdir -p $$(@D)
	@$$(CC_$(1)) -std=gnu11 $(WARN) $(FLAGS) $$(OPT_$(1)) -c $$< -o $$@

$(UNIT)/$(1)/%.cc.o: src/%.cc $(HEADERS)
	@mkdir -p $$(@D)
	@$$(CC_$(1)) -std=gnu++17 $(WARN) $(FLAGS) $$(OPT_$(1)) -c $$< -o $$@

$(UNIT)/$(1)/libpure.a: $(PURE_SRCS:src/%=$(UNIT)/$(1)/%.o)
	@rm -f $$@
	@ar crs $$@ $$^

$(UNIT)/$(1)/test_%: t/unit/test_%.c $(HEADERS) $(UNIT)/$(1)/libpure.a
	@$$(CC_$(1)) -std=gnu11 $(WARN) $(FLAGS) $$(OPT_$(1)) $$< \
	    $(UNIT)/$(1)/libpure.a -lcmocka $(LIBS) -lstdc++ -o $$@

.PHONY: $(TESTS:%=run-$(1)-%)
$(TESTS:%=run-$(1)-%): run-$(1)-%: $(UNIT)/$(1)/%
	@echo "databridge: $$* ($(1))"
	@$$(ENV_$(1)) $$< >$$<.log 2>&1 || { cat $$<.log; exit 1; }
endef

$(foreach v,plain asan tsan fuzz,$(eval $(call VARIANT,$(v))))

$(UNIT)/fuzz/fuzz_%: t/fuzz/fuzz_%.c $(HEADERS) $(UNIT)/fuzz/libpure.a
	@$(CLANG) -std=gnu11 $(WARN) $(FLAGS) $(OPT_fuzz) -c $< -o $@.o
	@$(CLANGXX) -g -fsanitize=fuzzer,address,undefined $@.o \
	    $(UNIT)/fuzz/libpure.a $(LIBS) -o $@

# It begins with the seeds; the corpus is kept between runs, what crashes
# beside it.

.PHONY: $(FUZZERS:%=run-%)
$(FUZZERS:%=run-%): run-%: $(UNIT)/fuzz/%
	@echo "databridge: $* (fuzz, $(FUZZ_SECONDS) s)"
	@mkdir -p $(UNIT)/corpus/$*
	@$< -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4096 \
	    -artifact_prefix=$(UNIT)/corpus/$*- $(UNIT)/corpus/$* \
	    $(wildcard t/fuzz/seeds/$*) \
	    $(patsubst %,-dict=%,$(wildcard t/fuzz/$*.dict)) \
	    >$<.log 2>&1 || { tail -n 60 $<.log; exit 1; }

# For t/test_router.py, which compares the router with Starlette.

library: $(UNIT)/librouter.so

$(UNIT)/librouter.so: $(wildcard src/route/*.c src/core/*.c) $(HEADERS)
	@mkdir -p $(@D)
	@gcc -std=gnu11 $(WARN) $(FLAGS) -O2 -shared -fPIC $(filter %.c,$^) -o $@

bench: $(UNIT)/plain/bench_store
	@$<

bench-crud: $(UNIT)/plain/bench_crud
	@$<

bench-metrics: $(UNIT)/plain/bench_metrics
	@$<

$(UNIT)/plain/bench_%: bench/%.c $(HEADERS) $(UNIT)/plain/libpure.a
	@gcc -std=gnu11 $(WARN) $(FLAGS) -O2 $< $(UNIT)/plain/libpure.a $(LIBS) \
	    -lstdc++ -o $@
