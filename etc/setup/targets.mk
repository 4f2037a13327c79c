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
	$(if $(shell command -v scdoc),$(MAKE) --no-print-directory install-man,@echo "no scdoc: no manual pages")
	install -D -m 644 etc/completions/tandemctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tandemctl
	install -D -m 644 etc/completions/_tandemctl $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tandemctl
	install -D -m 644 etc/completions/tandemctl.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tandemctl.fish
	@[ -e $(DESTDIR)$(SYSCONFDIR)/tandem/tandem.conf ] || \
		echo "next: tandemctl init -o $(DESTDIR)$(SYSCONFDIR)/tandem/tandem.conf"

uninstall: ## what install put there; the configuration stays
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(PROGRAMS)))
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/tandem
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/,man1/tandemctl.1 man5/tandem.conf.5 man8/tandemd.8) \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/tandemctl \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tandemctl \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tandemctl.fish

# --- manual pages ---

MAN_PAGES := $(patsubst etc/man/%.scd,$(BUILD)/man/%,$(wildcard etc/man/*.scd))

.PHONY: man
man: $(MAN_PAGES) ## build the manual pages into build/man/ (needs scdoc)

# The keys of tandem.conf(5) are the README's table.
$(BUILD)/man/%: etc/man/%.scd etc/man/keys.awk README.md
	$(call say,MAN,$@)
	@mkdir -p $(@D)
	$(Q)awk -f etc/man/keys.awk README.md >$@.keys
	$(Q)sed -e '/^@KEYS@$$/{r $@.keys' -e 'd}' $< >$@.scd
	$(Q)scdoc <$@.scd >$@.new && mv $@.new $@ && rm -f $@.keys $@.scd

.PHONY: install-man
install-man: man
	install -D -m 644 $(BUILD)/man/tandemctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/tandemctl.1
	install -D -m 644 $(BUILD)/man/tandem.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5/tandem.conf.5
	install -D -m 644 $(BUILD)/man/tandemd.8 $(DESTDIR)$(PREFIX)/share/man/man8/tandemd.8
