#!/bin/bash
# run.sh FOLDER SECONDS TARGET: one fuzz target (FOLDER/fuzz_TARGET) for so long, from its seeds and what earlier runs have
# found (FOLDER/corpus). An input that breaks it is kept in FOLDER, and told of; a run without one is told of in one line.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
folder=$(realpath "../../$1") seconds=$2 target=$3

seeds=seeds/$target
[ -d "$seeds" ] || seeds=seeds/json # bodies of requests
dict=$target.dict
[ -f "$dict" ] || dict=json.dict
mkdir -p "$folder/corpus/$target"
LSAN_OPTIONS="suppressions=$(realpath ../../etc/setup/lsan.supp):print_suppressions=0"
export LSAN_OPTIONS

# Standing still is told from slowness with room: a machine has other work, too. The total is looked at after each input only.
out=$("$folder/fuzz_$target" -max_total_time="$seconds" -max_len=16384 -timeout=60 -verbosity=0 -print_final_stats=1 -dict="$dict" \
	-artifact_prefix="$folder/$target-" "$folder/corpus/$target" "$seeds" 2>&1)
rc=$?
if [ $rc -eq 0 ]; then
	echo "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' <<<"$out") inputs in $seconds s, none of them breaks it"
	exit 0
fi
printf '%s\n' "$out"
echo "fuzz $target: FAILED (exit $rc); the input is $folder/$target-*"
exit 1 # one that xargs goes on after
