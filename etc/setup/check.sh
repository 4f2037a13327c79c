#!/bin/bash
# check.sh check|ui|clients|open-webui|ollama|collector|engine|chaos|replay|attack|attack-asan|asan|asan-slice|tsan|fuzz: runs the tests of that name, every stage even after one has failed. Ends with a line
# "N passed, N failed" that counts single tests, and 1 when anything failed.
#
# check   formatting, layers, the build with gcc and with clang, unit tests, tests of whole processes and of client packages
# ui      the page at /ui/ in a headless Chromium (PICTURES=1: its pictures in docs/images anew)
# clients whole agents and other clients, as they are published, before scripted backends (CLIENTS: only these)
# open-webui  Open WebUI before scripted backends
# replay  workers killed in mid-answer before a real llama-server, 200 times (REPLAY_OPTIONS: other numbers)
# chaos   streaming clients through 1,000 kills and stops, restarts, reloads and upgrades (CHAOS_OPTIONS: other numbers)
# ollama  a real Ollama behind tandem and in front of it its own clients
# collector  a real OpenTelemetry Collector takes the traces
# engine  a real llama-server with a small model behind tandem: what it caches, what its templates insist on
# attack  hostile clients, backends and neighbours; attack-asan: the same under AddressSanitizer and UBSan
# asan, tsan  unit tests and tests of whole processes under the sanitizers
# asan-slice  unit tests, attacks and some tests of whole processes under AddressSanitizer and UBSan
# fuzz    each fuzz target for FUZZ_SECONDS (20)
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT" || exit 1

jobs=-j$(nproc)
requirements=$ROOT/tests/requirements.txt
at_once=$((($(nproc) * 3 + 1) / 2))
make=("${MAKE:-make}" --no-print-directory)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0

# count FILE: adds up the closing lines of cmocka and pytest in it.
count() {
	local p f s
	read -r p f s < <(awk '
		/^\[  PASSED  \] [0-9]+ test/ { p += $4 }
		/^\[  FAILED  \] [0-9]+ test/ { f += $4 }
		/^fuzz [a-z]+: [0-9]+ inputs in / { p++ }
		/^fuzz [a-z]+: FAILED/ { f++ }
		/ in [0-9.:]+s/ && / (passed|failed|error|errors|skipped)/ {
			for (i = 2; i <= NF; i++) {
				if ($i ~ /^passed/) p += $(i - 1)
				if ($i ~ /^failed/) f += $(i - 1)
				if ($i ~ /^error/) f += $(i - 1)
				if ($i ~ /^skipped/) s += $(i - 1)
			}
		}
		END { print p + 0, f + 0, s + 0 }' "$1")
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	counted=$((p + f + s))
}

# stage NAME COMMAND...: runs it; a stage without counted tests counts as one.
stage() {
	local name=$1 start=$SECONDS rc=0 before=$failed
	shift
	printf '\n== %s\n' "$name"
	"$@" </dev/null 2>&1 | tee "$logs/log" || rc=$?
	count "$logs/log"
	if [ $rc -ne 0 ] && [ "$failed" -eq "$before" ]; then
		failed=$((failed + 1))
	elif [ $rc -eq 0 ] && [ "$counted" -eq 0 ]; then
		passed=$((passed + 1))
	fi
	[ $rc -eq 0 ] || printf '== %s FAILED (exit %d)\n' "$name" "$rc"
	printf '== %s: %d s\n' "$name" $((SECONDS - start))
	return $rc
}

# units BUILD: every unit test of a build, also after a failure.
units() {
	local t rc=0
	for t in "$1"/unit/test_*; do
		[ -x "$t" ] && [ ! -d "$t" ] || continue
		echo "-- $t"
		"$t" || rc=1
	done
	return $rc
}

# python_tests BUILD FOLDER|FILES: each folder in a pytest of its own (their conftest.py and helpers share names). Tests share
# neither ports nor folders, and mostly wait: half as many again run at once as there are cores; what holds memory or time to a
# figure runs after them, alone.
python_tests() {
	local build=$1 python rc=0
	shift
	local tests=("$@")
	python=$("$SETUP/venv.sh" "$requirements") || return 1
	pytest_part -n "$at_once" --dist worksteal -m "not measured" || rc=1
	pytest_part -m measured || rc=1
	return $rc
}

# No test of that kind is no failure.
pytest_part() {
	local rc=0
	TANDEM_BIN=$ROOT/$build/bin "$python" -m pytest -q -p no:cacheprovider --timeout 900 "$@" "${tests[@]}" || rc=$?
	[ $rc -eq 0 ] || [ $rc -eq 5 ]
}

# The Node packages of the client tests, where there is an npm; without one those tests are skipped.
node_packages() {
	command -v npm >/dev/null || return 0
	[ tests/clients/node/node_modules -nt tests/clients/node/package.json ] ||
		(cd tests/clients/node && npm install --no-audit --no-fund --no-package-lock && touch node_modules)
}

# A model on a processor takes as long as the other work there lets it: what is waited for is an event, not a time.
real_models() {
	export TANDEM_TEST_DEADLINE_S=${TANDEM_TEST_DEADLINE_S:-180}
	at_once=$(nproc)
}

build_all() { "${make[@]}" "$jobs" "$@" all test-programs; }

# sanitized_build NAME FLAGS: what the tests need with these flags, in build-NAME.
sanitized_build() {
	export CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=$2" LDFLAGS="-fsanitize=$2"
	stage "build with -fsanitize=$2" build_all BUILD="build-$1" || return
	unset CFLAGS LDFLAGS
	export TANDEM_SANITIZED=$1 TANDEM_TEST_DEADLINE_S=${TANDEM_TEST_DEADLINE_S:-60}
}

# sanitized NAME FLAGS: build, unit and process tests with these flags.
sanitized() {
	sanitized_build "$@" || return
	stage "unit tests ($1)" units "build-$1"
	stage "process tests ($1)" python_tests "build-$1" tests/process
}

# Where memory changes hands most: routes, queues, streams that go on, workers that are replaced.
slice=(routes.py queue.py resume.py replay.py restart.py)
asan_flags="address,undefined -fno-sanitize-recover=all"
asan_options() {
	export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
	export LSAN_OPTIONS="suppressions=$SETUP/lsan.supp:print_suppressions=0"
}

case ${1:-} in
check)
	"$SETUP/deps.sh" run check || exit 1
	stage formatting "${make[@]}" format-check
	stage "build" build_all && {
		stage layers "${make[@]}" layers
		stage "unit tests" units build
		stage "process tests" python_tests build tests/process
		stage "Node packages" node_packages
		stage "client tests" python_tests build tests/clients --ignore tests/clients/agents
	}
	stage "build with clang" build_all BUILD=build-clang CC=clang
	;;
ui)
	"$SETUP/deps.sh" run check ui || exit 1
	requirements=$ROOT/tests/ui/requirements.txt
	export TANDEM_TEST_DEADLINE_S=${TANDEM_TEST_DEADLINE_S:-60}
	stage "build" build_all && stage "the page" python_tests build tests/ui
	;;
clients)
	"$SETUP/deps.sh" run check || exit 1
	export TANDEM_TEST_DEADLINE_S=${TANDEM_TEST_DEADLINE_S:-60}
	only=(--ignore tests/clients/agents/test_open_webui.py)
	[ -z "${CLIENTS:-}" ] || only+=(-k "${CLIENTS// / or }")
	stage "build" build_all && stage "clients" python_tests build tests/clients/agents "${only[@]}"
	;;
open-webui)
	"$SETUP/deps.sh" run check || exit 1
	export TANDEM_TEST_DEADLINE_S=${TANDEM_TEST_DEADLINE_S:-60}
	stage "build" build_all && stage "Open WebUI" python_tests build tests/clients/agents/test_open_webui.py
	;;
ollama)
	"$SETUP/deps.sh" run check || exit 1
	real_models
	stage "build" build_all && stage "a real Ollama" "$ROOT/tests/ollama/build.sh" && stage "tests with a real Ollama" python_tests build tests/ollama
	;;
collector)
	"$SETUP/deps.sh" run check || exit 1
	stage "build" build_all && stage "a real collector" "$ROOT/tests/collector/build.sh" && stage "tests with a real collector" python_tests build tests/collector
	;;
engine)
	"$SETUP/deps.sh" run check || exit 1
	real_models
	stage "build" build_all && stage "tests with a real llama-server" python_tests build tests/engine
	;;
replay)
	"$SETUP/deps.sh" run check || exit 1
	real_models
	python=$("$SETUP/venv.sh") || exit 1
	read -ra options <<<"${REPLAY_OPTIONS:---kills 200}"
	stage "build" build_all && stage "replay" "$python" tests/chaos/replay.py "${options[@]}"
	;;
chaos)
	"$SETUP/deps.sh" run check || exit 1
	python=$("$SETUP/venv.sh") || exit 1
	read -ra options <<<"${CHAOS_OPTIONS:---faults 1000 --alone 20 --clients 32 --upgrades 5}"
	stage "build" build_all && stage "chaos" "$python" tests/chaos/chaos.py "${options[@]}"
	;;
attack)
	"$SETUP/deps.sh" run check bench || exit 1 # the verdicts of nginx are asked for
	stage "build" build_all && stage "attacks" python_tests build tests/attack
	;;
attack-asan)
	"$SETUP/deps.sh" run check || exit 1
	asan_options
	sanitized_build asan "$asan_flags" && stage "attacks (asan)" python_tests build-asan tests/attack
	;;
asan-slice)
	"$SETUP/deps.sh" run check || exit 1
	asan_options
	sanitized_build asan "$asan_flags" && {
		stage "unit tests (asan)" units build-asan
		stage "process tests (asan)" python_tests build-asan "${slice[@]/#/tests/process/test_}"
		stage "attacks (asan)" python_tests build-asan tests/attack
	}
	;;
fuzz)
	"$SETUP/deps.sh" run check || exit 1
	stage "fuzzing" "${make[@]}" "$jobs" fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-20}"
	;;
asan)
	"$SETUP/deps.sh" run check || exit 1
	asan_options
	sanitized asan "$asan_flags"
	;;
tsan)
	"$SETUP/deps.sh" run check || exit 1
	export TSAN_OPTIONS="suppressions=$SETUP/tsan.supp report_thread_leaks=0 allocator_may_return_null=1 history_size=7"
	sanitized tsan thread
	;;
*)
	die "usage: check.sh check|ui|clients|open-webui|ollama|collector|engine|chaos|replay|attack|attack-asan|asan|asan-slice|tsan|fuzz"
	;;
esac

echo
if [ "$skipped" -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
