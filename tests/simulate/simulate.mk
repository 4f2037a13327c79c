# The simulator (docs/simulate.md). Included by the root Makefile, whose variables it uses.

SIMULATE_NEEDS := $(addprefix $(BUILD)/bin/,tandemd tandem-worker fake-backend)
SIMULATE = TANDEM_BIN=$(abspath $(BUILD))/bin $(PYTHON) tests/simulate/simulate.py
SIMULATE_OPTIONS ?=

.PHONY: simulate
simulate: $(SIMULATE_NEEDS) ## sessions on scripted cards in scaled time: direct, client's summaries, both modes; about 12 minutes
	$(Q)$(SIMULATE) --json $(BUILD)/simulate.json $(SIMULATE_OPTIONS)

.PHONY: simulate-smoke
simulate-smoke: $(SIMULATE_NEEDS) ## 90 s of the same; fails only when the simulation itself is wrong
	$(Q)$(SIMULATE) --smoke --json $(BUILD)/simulate-smoke.json $(SIMULATE_OPTIONS)

.PHONY: simulate-engine
simulate-engine: all ## sessions before a real llama-server, directly and through tandem, by its own count; writes docs/simulate.md
	$(Q)SIMULATE_ENGINE_DOCS=1 TANDEM_BIN=$(abspath $(BUILD))/bin $$(etc/setup/venv.sh) -m pytest -q -s -p no:cacheprovider tests/engine/test_never_slower.py
