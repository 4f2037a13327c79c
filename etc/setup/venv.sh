#!/bin/bash
# venv.sh [REQUIREMENTS]: prints the python of a virtual environment that holds them (tests/requirements.txt), made in the cache when it
# is missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

requirements=${1:-$ROOT/tests/requirements.txt}
key=$( (cat "$requirements"; "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)') | sha256sum | cut -c1-12)
venv=$CACHE/venv/$key

cache_lock venv
if [ ! -e "$venv/complete" ]; then
	say "installing the tests' Python packages into $venv"
	rm -rf "$venv"
	"$PYTHON" -m venv "$venv" >&2 || die "cannot make a virtual environment (python3-venv is needed)"
	"$venv/bin/python" -m pip install --disable-pip-version-check --no-cache-dir --quiet --require-hashes \
		--requirement "$requirements" >&2 || die "the tests' Python packages could not be installed (see above)"
	touch "$venv/complete"
fi
printf '%s\n' "$venv/bin/python"
