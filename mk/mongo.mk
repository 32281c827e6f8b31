# MongoDB's driver, a shared object beside the module, which loads it for a
# mongodb:// store.  It is made where mongo-c-driver is installed: 2.x, or
# Debian's 1.x.

MONGOC := $(firstword $(foreach name,mongoc2 libmongoc-1.0,\
            $(shell pkg-config --exists $(name) 2>/dev/null && echo $(name))))
MONGO  := $(if $(MONGOC),databridge_mongo.so)

MONGO_SOURCES := $(sort $(wildcard src/store/mongo/*.c src/core/*.c \
                   src/json/*.c src/json/*.cc)) src/store/db_match.c \
                   src/store/db_project.c
MONGO_MAP     := src/store/mongo/driver.map

.PHONY: mongo
mongo: $(addprefix $(BUILD)/,$(MONGO)) $(addprefix python/databridge/,$(MONGO))

# $(call MONGO_DRIVER,directory,options)

define MONGO_DRIVER
$(1)/databridge_mongo.so: $(MONGO_SOURCES) $(MONGO_MAP) \
                          $(wildcard src/*/*.h src/store/mongo/*.h)
	@echo "databridge: compiling $$@ with $(MONGOC)"
	@mkdir -p $$(@D)
	@gcc $(2) -fPIC -shared -pthread -Isrc $$$$(pkg-config --cflags $(MONGOC)) \
	    -Wl,--version-script=$(MONGO_MAP) -o $$@ $(MONGO_SOURCES) \
	    $$$$(pkg-config --libs $(MONGOC)) -lsimdjson -lstdc++ -lm
endef

$(eval $(call MONGO_DRIVER,$(BUILD),$(CC_OPT)))

# The server of the tests: its jars, and its class.

$(BUILD)/mongo/Main.class: t/mongo/pom.xml t/mongo/SHA256SUMS t/mongo/Main.java
	@echo "databridge: fetching mongo-java-server"
	@mvn -q -B -C -f t/mongo/pom.xml dependency:copy-dependencies \
	    -DoutputDirectory=$(abspath $(BUILD))/mongo
	@cd $(BUILD)/mongo && sha256sum --quiet -c $(CURDIR)/t/mongo/SHA256SUMS
	@javac -d $(BUILD)/mongo -cp '$(BUILD)/mongo/*' t/mongo/Main.java

python/databridge/databridge_mongo.so: $(BUILD)/databridge_mongo.so
	@ln -sf ../../$< $@
