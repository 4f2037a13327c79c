#!/bin/bash
# configure.sh FILE [options of tandemctl init]: makes FILE the configuration that `make run` uses, or keeps it. What was
# chosen is said on stderr. Needs the built programs.
#
# Ollama where it answers; otherwise an engine and a model from the cache, which are got when they are missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

conf=$1
shift
ctl=$ROOT/build/bin/tandemctl

gpus_seen() { grep -q '^ *[A-Za-z]*[0-9]*:' <<<"$devices"; }

list_devices() { devices=$(LD_LIBRARY_PATH=$library "$engine" --list-devices 2>/dev/null || true); }

# Sets engine, library, model and devices.
prepare_engine() {
	local answer
	answer=$("$SETUP/engine.sh") || exit 1
	{ read -r engine && read -r library; } <<<"$answer" || true
	model=$("$SETUP/model.sh") || exit 1
	list_devices
	if [ -e /dev/nvidia0 ] && ! gpus_seen; then
		# Without these the NVIDIA driver offers no Vulkan, and the engine silently computes on the CPU.
		say "an NVIDIA GPU is here, but $engine does not see it; adding the libraries that its driver needs"
		"$SETUP/deps.sh" gpu || true
		list_devices
		gpus_seen || say "WARNING: the NVIDIA GPU stays unused: '$engine --list-devices' shows none." \
			"Its driver may lack Vulkan. Ollama, or your own build in LLAMA_SERVER, can use it."
	fi
}

write() {
	local engine_options=("--engine=$engine" "--engine-devices=$devices" "--model-file=$model" "--model-name=$MODEL_NAME")
	[ -z "$library" ] || engine_options+=("--engine-lib=$library")
	"$ctl" init --output="$conf" "$@" "${engine_options[@]}" >&2
}

mkdir -p "$(dirname "$conf")"
if [ -e "$conf" ]; then
	"$ctl" check "$conf" >/dev/null || die "correct $conf, or delete it to have a new one written"
	if ! grep -qF "$CACHE/" "$conf"; then
		say "configuration: $conf (kept; delete it to choose anew)"
		exit 0
	fi
	prepare_engine
	if grep -qF "\"$engine\"" "$conf" && grep -qF "\"$model\"" "$conf"; then
		say "configuration: $conf (kept; delete it to choose anew)"
		exit 0
	fi
	say "the engine or the model has moved; the old configuration is now $conf.old"
	mv -f "$conf" "$conf.old"
	write "$@"
	exit 0
fi

mkdir -p "$CACHE/tmp"
said=$(mktemp "$CACHE/tmp/init.XXXXXX")
trap 'rm -f "$said"' EXIT
rc=0
"$ctl" init --output="$conf" "$@" >"$said" 2>&1 || rc=$?
if [ $rc -eq 3 ]; then
	say "no Ollama with a model answers here: tandem starts an engine and a small model of its own"
	prepare_engine
	write "$@"
else
	cat "$said" >&2
	exit $rc
fi
