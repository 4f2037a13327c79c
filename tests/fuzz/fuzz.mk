# Fuzzing and the differential test. Included by the root Makefile, whose variables it uses.

FUZZ_CC ?= clang
FUZZ_SECONDS ?= 30
DIFFERENTIAL_COUNT ?= 60000

FUZZ_CFLAGS := -std=c17 $(WARN) -O1 -g -fno-omit-frame-pointer -fno-strict-aliasing -MMD -MP \
	-fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))
CODEC_SRC := $(addprefix proto/,encode.c decode.c fields.c names.c wire.c)
INLET_SRC := supervisor/front/head.c supervisor/front/inlet.c
PLAN_SRC := supervisor/requests/plan.c supervisor/requests/decide.c
SP_SRC := supervisor/tell/sp.c supervisor/tell/rep.c supervisor/tell/pub.c
JSON_SRC := $(wildcard common/base/json_*.c) common/base/buf.c

$(BUILD)/fuzz/obj/%.o: %.c
	$(call say,CC,$< (fuzz))
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<

$(FUZZ_BIN): $(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/obj/tests/fuzz/fuzz_%.o \
		$(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(COMMON_SRC) $(CODEC_SRC) $(INLET_SRC) $(PLAN_SRC) $(SP_SRC))
	$(call say,LD,$@)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ -lmsgpackc -luv $(LDLIBS_COMMON)

# One binary with the wide steps of json_scan.h, one with the portable ones.
$(BUILD)/fuzz/json_oracle: tests/fuzz/json_oracle.c $(JSON_SRC) common/base/json.h common/base/json_scan.h
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -O2 -g -std=c17 $(WARN) -o $@ $(filter %.c,$^) -lm

$(BUILD)/fuzz/json_oracle_portable: tests/fuzz/json_oracle.c $(JSON_SRC) common/base/json.h common/base/json_scan.h
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -MF /dev/null -U__SSE2__ -o $@ $(filter %.c,$^) -lm

.PHONY: fuzz
fuzz: $(FUZZ_BIN) ## fuzz each target for FUZZ_SECONDS (30) under ASan and UBSan, one on each core
	$(Q)printf '%s\n' $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_SRC)) | \
		xargs -P $$(nproc) -n 1 tests/fuzz/run.sh $(BUILD)/fuzz $(FUZZ_SECONDS)

.PHONY: differential
differential: $(BUILD)/fuzz/json_oracle $(BUILD)/fuzz/json_oracle_portable ## compare the JSON reader with Python's over mutated texts
	$(Q)$(PYTHON) tests/fuzz/differential_json.py $(BUILD)/fuzz/json_oracle --count $(DIFFERENTIAL_COUNT)
	$(Q)$(PYTHON) tests/fuzz/differential_json.py $(BUILD)/fuzz/json_oracle_portable --seed 2 \
		--count $(DIFFERENTIAL_COUNT)

.PHONY: bench-json
bench-json: $(BUILD)/fuzz/json_oracle ## time the JSON reader at 62 KB, 1 MB and 20 MB
	$(Q)mkdir -p $(BUILD)/fuzz/bodies
	$(Q)$(PYTHON) tests/fuzz/differential_json.py $(BUILD)/fuzz/json_oracle --time $(BUILD)/fuzz/bodies
