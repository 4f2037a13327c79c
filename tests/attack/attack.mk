# Hostile clients, backends and neighbours (docs/security.md). Included by the root Makefile, whose variables it uses.

.PHONY: attack attack-asan
attack: ## hostile clients, backends and neighbours against a whole tandem
	@$(SETUP)/check.sh attack

attack-asan: ## the same under AddressSanitizer and UBSan
	@$(SETUP)/check.sh attack-asan
