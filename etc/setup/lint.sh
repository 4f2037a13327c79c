#!/bin/bash
# lint.sh FILE.c...: clang-tidy with the checks of .clang-tidy, as many files at once as there are cores. Silent, or every finding and 1.
# The analyzer does not walk into what a function calls (mode=shallow): .clang-tidy says why.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT" || exit 1

export FLAGS="-std=c17 -I. -D_GNU_SOURCE -DTANDEM_VERSION=\"lint\" -Xclang -analyzer-config -Xclang mode=shallow"
# shellcheck disable=SC2016 # the shell below expands them
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 4 sh -c '
	out=$(clang-tidy --quiet "$@" -- $FLAGS 2>&1)
	rc=$?
	[ $rc -eq 0 ] || printf "%s\n" "$out"
	exit $rc' clang-tidy
