# tandem: `make help` lists the targets.

BUILD ?= build
PREFIX ?= /usr/local
CC ?= cc
V ?= 0
PYTHON ?= python3

VERSION := 0.1.0

WARN := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
	-Wvla -Wwrite-strings
CPPFLAGS += -I. -D_GNU_SOURCE -DTANDEM_VERSION='"$(VERSION)"'
CFLAGS ?= -O2 -g
override CFLAGS += -std=c17 $(WARN) -fno-strict-aliasing -fstack-protector-strong -MMD -MP
LDLIBS_COMMON := -lconfig -lz -lzstd -llmdb -lm -Wl,--push-state,--as-needed,-lgnutls,--pop-state
LDLIBS_PROTO := -lnng -lmsgpackc -luv
LDLIBS_SUPERVISOR := -lmicrohttpd -luv -ldl -lpthread
LDLIBS_WORKER := -lcurl -luv -lpthread

ifeq ($(V),0)
Q := @
say = @printf '  [%s] %s\n' '$(1)' '$(2)';
endif

src = $(wildcard $(1)/*.c) $(wildcard $(1)/*/*.c)
COMMON_SRC := $(call src,common)
PROTO_SRC := $(call src,proto)
SUPERVISOR_SRC := $(filter-out supervisor/main.c supervisor/ctl/%,$(call src,supervisor))
CTL_SRC := $(filter-out supervisor/ctl/main.c,$(call src,supervisor/ctl))
WORKER_SRC := $(filter-out workers/main.c,$(call src,workers))
FAKE_SRC := $(wildcard tests/fake/*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
PROGRAMS := $(addprefix $(BUILD)/bin/,tandemd tandem-worker tandemctl)

.DEFAULT_GOAL := all
.PHONY: all
all: $(PROGRAMS) ## build the three programs into build/bin/

$(BUILD)/obj/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# The page is part of the program.
$(BUILD)/obj/supervisor/tell/ui_files.o: $(wildcard supervisor/tell/ui/*)

define archive
$(BUILD)/lib$(1).a: $(call obj,$(2))
	$$(call say,AR,$$@)
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(eval $(call archive,common,$(COMMON_SRC)))
$(eval $(call archive,proto,$(PROTO_SRC)))
$(eval $(call archive,supervisor,$(SUPERVISOR_SRC)))
$(eval $(call archive,workers,$(WORKER_SRC)))
$(eval $(call archive,ctl,$(CTL_SRC)))

$(BUILD)/bin/tandemd: $(BUILD)/obj/supervisor/main.o $(BUILD)/libsupervisor.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_SUPERVISOR) $(LDLIBS_PROTO) $(LDLIBS_COMMON)

$(BUILD)/bin/tandem-worker: $(BUILD)/obj/workers/main.o $(BUILD)/libworkers.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_WORKER) $(LDLIBS_PROTO) $(LDLIBS_COMMON)

# Of the supervisor tandemctl takes the pure decisions only: explain.h.
$(BUILD)/bin/tandemctl: $(BUILD)/obj/supervisor/ctl/main.o $(BUILD)/libctl.a $(BUILD)/libsupervisor.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcurl $(LDLIBS_PROTO) $(LDLIBS_COMMON)

$(BUILD)/bin/fake-backend: $(call obj,$(FAKE_SRC)) $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -luv $(LDLIBS_COMMON)

# The supervisor's end of a worker's link, for tests/process/test_worker.py.
$(BUILD)/bin/link-driver: $(BUILD)/obj/tests/process/link_driver.o $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_PROTO) $(LDLIBS_COMMON)

# Small programs that tests drive.
$(BUILD)/bin/%-driver: $(BUILD)/obj/tests/process/%_driver.o $(BUILD)/libsupervisor.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_SUPERVISOR) $(LDLIBS_PROTO) $(LDLIBS_COMMON)

# A unit test links what it includes: tests/unit/test_x.c may use every library.
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libctl.a $(BUILD)/libsupervisor.a $(BUILD)/libworkers.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka -lcurl $(LDLIBS_SUPERVISOR) $(LDLIBS_PROTO) $(LDLIBS_COMMON)

.PHONY: unit
unit: $(UNIT_BIN) ## build and run the unit tests
	$(Q)set -e; for t in $(UNIT_BIN); do echo "== $$t"; $$t; done

.PHONY: clean
clean: ## remove what was built (caches of engines and models stay)
	rm -rf $(BUILD)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z][a-zA-Z_-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

-include tests/bench/bench.mk
-include tests/eval/eval.mk
-include tests/simulate/simulate.mk
-include tests/fuzz/fuzz.mk
-include tests/attack/attack.mk
-include etc/setup/targets.mk
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
