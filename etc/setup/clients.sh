#!/bin/bash
# clients.sh NAME: puts a client that tests/clients/agents runs into the cache, once, and prints its folder. npm/NAME there holds a package
# file and its lock, pip/NAME.txt a complete list with hashes. Of what npm installs nothing runs before the tests do.
#
# Exit 77: cannot be had on this machine (said why); the tests are skipped then.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || die "usage: clients.sh NAME"
name=$1
pins=$ROOT/tests/clients/agents
cannot() {
	say "no $name for the tests: $1"
	exit 77
}

from_npm() {
	cp "$pins/npm/$name"/package*.json "$SCRATCH/made"
	(cd "$SCRATCH/made" && npm install --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >&2) ||
		die "$name could not be installed from the npm registry (see above)"
}

from_pip() {
	"$PYTHON" -m venv "$SCRATCH/made" >&2 || die "cannot make a virtual environment (python3-venv is needed)"
	"$SCRATCH/made/bin/python" -m pip install --disable-pip-version-check --no-cache-dir --quiet --require-hashes --no-deps \
		--requirement "$pins/pip/$name.txt" >&2 || die "$name could not be installed from the Python package index (see above)"
}

[ "$(uname -m)" = x86_64 ] || cannot "its packages are pinned for x86_64 alone"
if [ -d "$pins/npm/$name" ]; then
	command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || cannot "npm and Node 20 or newer are needed"
	from=from_npm
	key=$( (cat "$pins/npm/$name"/package*.json; node --version) | sha256sum | cut -c1-12)
elif [ -f "$pins/pip/$name.txt" ]; then
	from=from_pip
	key=$( (cat "$pins/pip/$name.txt"; "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)') | sha256sum | cut -c1-12)
else
	die "no client $name in $pins"
fi

folder=$CACHE/clients/$name-$key
cache_lock "client-$name"
if [ ! -e "$folder/complete" ]; then
	say "installing $name into $folder"
	cache_scratch "client-$name"
	mkdir -p "$SCRATCH/made" "$CACHE/clients"
	$from
	touch "$SCRATCH/made/complete"
	mv "$SCRATCH/made" "$folder"
fi
printf '%s\n' "$folder"
