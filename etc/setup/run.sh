#!/bin/bash
# `make run`: installs what is missing, builds, configures, starts tandem and keeps it in the foreground. Ctrl-C (or TERM)
# stops it and all that it started.
#
# TANDEM_CONF names the configuration (default tandem.conf in the cache folder).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

bin=$ROOT/build/bin
conf=${TANDEM_CONF:-$CACHE/tandem.conf}
daemon='' waiter='' stopping=''

# The first signal asks, the second one does not wait for answers under way.
stop() {
	if [ -z "$stopping" ]; then
		stopping=yes
		say "stopping (answers under way are finished first; once more: at once)"
		[ -z "$daemon" ] || kill -TERM "$daemon" 2>/dev/null || true
	else
		[ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null || true
	fi
	[ -z "$waiter" ] || kill "$waiter" 2>/dev/null || true
}
trap stop INT TERM HUP

# Waits for the daemon through interruptions; its exit code is left in rc.
finish() {
	while kill -0 "$daemon" 2>/dev/null; do
		rc=0
		wait "$daemon" || rc=$?
	done
}

"$SETUP/deps.sh" run
"${MAKE:-make}" -C "$ROOT" --no-print-directory -j"$(nproc)" all >&2
"$SETUP/configure.sh" "$conf"
[ -z "$stopping" ] || exit 130

run_dir=$(sed -n 's/^run_dir *[=:] *"\(.*\)".*/\1/p' "$conf" | tail -n 1)
rc=0
"$bin/tandemd" -c "$conf" &
daemon=$!
say "starting the devices"
"$bin/tandemctl" ${run_dir:+-R "$run_dir"} wait-ready --timeout 300 >&2 &
waiter=$!
wait -n -p first "$daemon" "$waiter" || rc=$?
if [ -z "$stopping" ] && [ "${first:-}" = "$daemon" ]; then
	kill "$waiter" 2>/dev/null || true
	die "tandemd stopped with code $rc (its last lines are above)"
fi
waiter=
if [ -z "$stopping" ] && [ $rc -ne 0 ]; then
	stop
	finish
	die "no device became ready (see above); configuration: $conf"
fi

if [ -z "$stopping" ]; then
	status=$("$bin/tandemctl" ${run_dir:+-R "$run_dir"} status --json)
	"$PYTHON" - "$status" "$conf" <<'PYTHON' || true
import json, sys

status, conf = json.loads(sys.argv[1]), sys.argv[2]
url = "http://" + status["listen"]
print(f"\ntandem answers at {url} (Ollama) and {url}/v1 (OpenAI), and shows itself at {url}/ui/\n")
for d in status["devices"]:
    backend = d["backend"]
    print(f"  {d['name']:<8} {'+'.join(d['roles']):<14} {d['state']:<8} {backend['model'] or '-':<20} {backend['type']}")
model = next(d["backend"]["model"] for d in status["devices"] if "main" in d["roles"])
messages = [{"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France?"}]
body = json.dumps({"model": model, "messages": messages, "options": {"temperature": 0}})
print(f"\n  configuration: {conf}\n\nTry it:\n  curl {url}/api/chat -d '{body}'\n\nCtrl-C stops everything.\n", flush=True)
PYTHON
fi

finish
[ -n "$stopping" ] || die "tandemd stopped by itself with code $rc"
say "stopped"
