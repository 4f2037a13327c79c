# The targets that run, check, install. Included by the root Makefile, whose variables it uses.

SETUP := etc/setup
.SECONDARY: # objects of tests are kept, not made again
SYSCONFDIR ?= /etc
C_FILES = $(sort $(shell find common proto supervisor workers tests -name '*.[ch]'))

.PHONY: deps run demo check check-ui check-clients check-open-webui chaos replay check-ollama check-collector check-engine asan asan-slice fuzz-check tsan format format-check layers lint install uninstall

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

check-ui: ## the page at /ui/ in a headless Chromium (a package of Debian's), before real processes
	@$(SETUP)/check.sh ui

check-clients: ## whole agents, unmodified, before scripted backends (kept in the cache; CLIENTS="claude-code llm": only these)
	@$(SETUP)/check.sh clients

check-open-webui: ## Open WebUI before scripted backends (over a gigabyte in the cache)
	@$(SETUP)/check.sh open-webui

check-ollama: ## test against a real Ollama (built once, kept in the cache)
	@$(SETUP)/check.sh ollama

check-collector: ## test traces against a real OpenTelemetry Collector (built once, kept in the cache)
	@$(SETUP)/check.sh collector

check-engine: ## test against a real llama-server (an engine and a small model, kept in the cache)
	@$(SETUP)/check.sh engine

replay: ## 200 workers killed in mid-answer before a real llama-server that keeps its streams
	@$(SETUP)/check.sh replay

chaos: ## 32 streaming clients through 1,000 kills and stops, restarts, reloads, upgrades
	@$(SETUP)/check.sh chaos

asan: ## the tests under AddressSanitizer and UBSan
	@$(SETUP)/check.sh asan

asan-slice: ## the same for unit tests, attacks, and what ends, waits and goes on among the process tests
	@$(SETUP)/check.sh asan-slice

fuzz-check: ## each fuzz target for 20 s, counted as a test
	@$(SETUP)/check.sh fuzz

tsan: ## the tests under ThreadSanitizer
	@$(SETUP)/check.sh tsan

format: ## format all C files
	$(Q)clang-format -i $(C_FILES)

format-check: ## fail where a C file is not formatted
	$(Q)clang-format --dry-run -Werror $(C_FILES)

layers: all ## fail where a file includes or calls what stands above it, or files need each other in a circle
	$(Q)$(PYTHON) $(SETUP)/layers.py . $(BUILD)

lint: format-check ## static analysis of C and shell files
	@$(SETUP)/deps.sh lint
	$(Q)$(SETUP)/lint.sh $(filter %.c,$(C_FILES))
	$(Q)shellcheck -S warning -x -P $(SETUP) $(SETUP)/*.sh tests/ollama/*.sh tests/fuzz/*.sh .ci/run

# Units name the programs by their place: @PREFIX@ and @SYSCONFDIR@ are filled in.
UNITDIR ?= $(PREFIX)/lib/systemd/system
LIBDIR := $(PREFIX)/lib
SHAREDIR := $(PREFIX)/share
UNITS := tandem.service tandem.socket
fill = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g'

install: all ## into $(PREFIX) (/usr/local); DESTDIR, SYSCONFDIR (/etc) and UNITDIR are honoured
	install -d $(addprefix $(DESTDIR),$(PREFIX)/bin $(SYSCONFDIR)/tandem $(SHAREDIR)/doc/tandem $(UNITDIR) \
		$(LIBDIR)/sysusers.d $(LIBDIR)/tmpfiles.d)
	for p in $(PROGRAMS); do install -m 755 $$p $(DESTDIR)$(PREFIX)/bin/$${p##*/}.new && \
		mv -f $(DESTDIR)$(PREFIX)/bin/$${p##*/}.new $(DESTDIR)$(PREFIX)/bin/$${p##*/} || exit 1; done
	install -m 644 README.md README.pt.md CHANGELOG.md LICENSE $(DESTDIR)$(SHAREDIR)/doc/tandem
	install -d $(DESTDIR)$(SHAREDIR)/doc/tandem/docs
	install -m 644 docs/*.md $(DESTDIR)$(SHAREDIR)/doc/tandem/docs
	install -d $(DESTDIR)$(SHAREDIR)/doc/tandem/docs/images
	install -m 644 docs/images/*.png $(DESTDIR)$(SHAREDIR)/doc/tandem/docs/images
	install -m 644 etc/tandem.conf $(DESTDIR)$(SHAREDIR)/doc/tandem/tandem.conf
	install -m 644 etc/grafana/tandem.json etc/prometheus/*.yml $(DESTDIR)$(SHAREDIR)/doc/tandem
	for u in $(UNITS); do $(fill) etc/systemd/$$u.in >$(DESTDIR)$(UNITDIR)/$$u && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$u || exit 1; done
	install -m 644 etc/systemd/tandem.sysusers $(DESTDIR)$(LIBDIR)/sysusers.d/tandem.conf
	install -m 644 etc/systemd/tandem.tmpfiles $(DESTDIR)$(LIBDIR)/tmpfiles.d/tandem.conf
	install -D -m 644 etc/completions/tandemctl.bash $(DESTDIR)$(SHAREDIR)/bash-completion/completions/tandemctl
	install -D -m 644 etc/completions/_tandemctl $(DESTDIR)$(SHAREDIR)/zsh/site-functions/_tandemctl
	install -D -m 644 etc/completions/tandemctl.fish $(DESTDIR)$(SHAREDIR)/fish/vendor_completions.d/tandemctl.fish
	$(if $(shell command -v scdoc),$(MAKE) --no-print-directory install-man,@echo "no scdoc: no manual pages")
	@[ -e $(DESTDIR)$(SYSCONFDIR)/tandem/tandem.conf ] || \
		echo "next: tandemctl init -o $(DESTDIR)$(SYSCONFDIR)/tandem/tandem.conf"
	@[ -n "$(DESTDIR)" ] || [ ! -d /run/systemd/system ] || \
		echo "next: systemd-sysusers && systemctl daemon-reload && systemctl enable --now tandem"

uninstall: ## what install put there; the configuration stays
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(PROGRAMS))) $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	rm -f $(DESTDIR)$(LIBDIR)/sysusers.d/tandem.conf $(DESTDIR)$(LIBDIR)/tmpfiles.d/tandem.conf
	rm -f $(addprefix $(DESTDIR)$(SHAREDIR)/,bash-completion/completions/tandemctl zsh/site-functions/_tandemctl \
		fish/vendor_completions.d/tandemctl.fish)
	rm -f $(foreach m,$(notdir $(MAN_PAGES)),$(DESTDIR)$(SHAREDIR)/man/man$(subst .,,$(suffix $(m)))/$(m))
	rm -rf $(DESTDIR)$(SHAREDIR)/doc/tandem

# --- manual pages ---

MAN_PAGES := $(patsubst etc/man/%.scd,$(BUILD)/man/%,$(wildcard etc/man/*.scd))

.PHONY: man
man: $(MAN_PAGES) ## build the manual pages into build/man/ (needs scdoc)

# The keys of tandem.conf(5) are the table of docs/configuration.md.
$(BUILD)/man/%: etc/man/%.scd etc/man/keys.awk docs/configuration.md
	$(call say,MAN,$@)
	@mkdir -p $(@D)
	$(Q)awk -f etc/man/keys.awk docs/configuration.md >$@.keys
	$(Q)sed -e '/^@KEYS@$$/{r $@.keys' -e 'd}' $< >$@.scd
	$(Q)scdoc <$@.scd >$@.new && mv $@.new $@ && rm -f $@.keys $@.scd

.PHONY: install-man
install-man: man
	for m in $(MAN_PAGES); do install -D -m 644 $$m $(DESTDIR)$(SHAREDIR)/man/man$${m##*.}/$${m##*/} || exit 1; done
