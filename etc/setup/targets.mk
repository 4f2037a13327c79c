# The targets that run, check, install. Included by the root Makefile, whose variables it uses.

SETUP := etc/setup
.SECONDARY: # objects of tests are kept, not made again
SYSCONFDIR ?= /etc
C_FILES = $(sort $(shell find common proto supervisor workers tests -name '*.[ch]'))

.PHONY: deps run demo check check-ollama asan tsan format format-check lint install uninstall

# What check.sh builds beside the programs.
.PHONY: test-programs
test-programs: $(UNIT_BIN) $(BUILD)/bin/fake-backend \
	$(patsubst tests/process/%_driver.c,$(BUILD)/bin/%-driver,$(wildcard tests/process/*_driver.c))

.PHONY: bench-deps
bench bench-smoke: | bench-deps
bench-deps:
	@$(SETUP)/deps.sh bench

deps: ## install the Debian packages that building, running and testing need
	@$(SETUP)/deps.sh run check

run: ## install what is missing, build, start tandem on :8512; Ctrl-C stops it
	@$(SETUP)/run.sh

demo: ## send the three example prompts through real models and check their routes
	@$(SETUP)/demo.sh

check: ## install what the tests need and run them all
	@$(SETUP)/check.sh check

check-ollama: ## test against a real Ollama (built once, kept in the cache)
	@$(SETUP)/check.sh ollama

asan: ## the tests under AddressSanitizer and UBSan
	@$(SETUP)/check.sh asan

tsan: ## the tests under ThreadSanitizer
	@$(SETUP)/check.sh tsan

format: ## format all C files
	$(Q)clang-format -i $(C_FILES)

format-check: ## fail where a C file is not formatted
	$(Q)clang-format --dry-run -Werror $(C_FILES)

LINT_CHECKS := -*,clang-analyzer-*,-clang-analyzer-security.insecureAPI.*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-narrowing-conversions,-bugprone-assignment-in-if-condition

lint: format-check ## static analysis of C and shell files
	@$(SETUP)/deps.sh lint
	$(Q)printf '%s\n' $(filter %.c,$(C_FILES)) | xargs -P $$(nproc) -n 4 \
		clang-tidy --quiet --warnings-as-errors='*' --checks='$(LINT_CHECKS)' {} -- 2>/dev/null
	$(Q)shellcheck -x -P $(SETUP) $(SETUP)/*.sh tests/ollama/*.sh .ci/run

install: all ## into $(PREFIX) (/usr/local); DESTDIR and SYSCONFDIR (/etc) are honoured
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(SYSCONFDIR)/tandem $(DESTDIR)$(PREFIX)/share/doc/tandem
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/tandem
	install -m 644 etc/tandem.conf $(DESTDIR)$(PREFIX)/share/doc/tandem/tandem.conf
	@[ -e $(DESTDIR)$(SYSCONFDIR)/tandem/tandem.conf ] || \
		echo "next: tandemctl init -o $(DESTDIR)$(SYSCONFDIR)/tandem/tandem.conf"

uninstall: ## what install put there; the configuration stays
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(PROGRAMS)))
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/tandem
