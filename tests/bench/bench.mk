# The benchmark (README: figures). Included by the root Makefile, whose variables it uses.

BENCH_BIN := $(BUILD)/bin/bench-load
BENCH_NEEDS := $(addprefix $(BUILD)/bin/,tandemd tandem-worker fake-backend bench-load)
BENCH = TANDEM_BIN=$(abspath $(BUILD))/bin $(PYTHON) tests/bench/bench.py
BENCH_OPTIONS ?=

$(BENCH_BIN): $(call obj,$(BENCH_SRC))
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

.PHONY: bench
bench: $(BENCH_NEEDS) ## direct, nginx and tandem side by side; figures in build/bench.json
	$(Q)$(BENCH) --json $(BUILD)/bench.json $(BENCH_OPTIONS)

.PHONY: bench-smoke
bench-smoke: $(BENCH_NEEDS) ## 20 s of the same; fails only when something is grossly wrong
	$(Q)$(BENCH) --smoke --json $(BUILD)/bench-smoke.json $(BENCH_OPTIONS)

.PHONY: bench-kv
bench-kv: $(PROGRAMS) ## what restarting a real backend costs a long conversation, with its KV saved and without
	$(Q)TANDEM_BIN=$(abspath $(BUILD))/bin $(PYTHON) tests/bench/kv_restart.py --json $(BUILD)/bench-kv.json


.PHONY: bench-gpus
bench-gpus: $(PROGRAMS) ## two real cards, direct and both modes: GPUS_OPTIONS="--main URL --small URL" (docs/gpus.md)
	$(Q)TANDEM_BIN=$(abspath $(BUILD))/bin $(PYTHON) tests/bench/gpus.py --json $(BUILD)/bench-gpus.json $(GPUS_OPTIONS)
