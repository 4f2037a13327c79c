# The evaluation of what condensing keeps (docs/eval.md). Included by the root Makefile, whose variables it uses.

EVAL_BIN := $(BUILD)/bin/eval-driver
EVAL = $(PYTHON) tests/eval/eval.py --driver $(EVAL_BIN) --build $(BUILD)
EVAL_OPTIONS ?=

$(EVAL_BIN): $(BUILD)/obj/tests/eval/driver.o $(BUILD)/obj/tests/eval/scribe.o $(BUILD)/libsupervisor.a $(BUILD)/libcommon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_COMMON)

.PHONY: eval
eval: $(EVAL_BIN) ## what condensing keeps and what stays cached, on transcripts of real work (EVAL_DATA=DIR: on yours)
	$(Q)$(EVAL) $(if $(EVAL_DATA),--data '$(EVAL_DATA)',--docs docs) $(EVAL_OPTIONS)

.PHONY: eval-smoke
eval-smoke: $(EVAL_BIN) ## 40 s of the same, with thresholds of its own
	$(Q)$(EVAL) --smoke $(EVAL_OPTIONS)
