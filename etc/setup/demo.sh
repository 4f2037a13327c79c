#!/bin/bash
# `make demo`: the original validation on real models, on a free port, in a folder of its own that is removed afterwards.
# TANDEM_INIT holds further options of `tandemctl init`, for example "--no-ollama".
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$SETUP/deps.sh" run
"${MAKE:-make}" -C "$ROOT" --no-print-directory -j"$(nproc)" all >&2
folder=$(mktemp -d /tmp/tandem-demo.XXXXXX)
trap 'rm -rf "$folder"' EXIT
# shellcheck disable=SC2086 # options, to be split
"$SETUP/configure.sh" "$folder/tandem.conf" --port 0 --run-dir "$folder/run" ${TANDEM_INIT:-}
"$PYTHON" "$ROOT/tests/demo.py" "$ROOT/build/bin" "$folder"
