#!/bin/bash
# Builds a real OpenTelemetry Collector (OTLP in, words out: main.go) from its Go modules in the cache, once, and prints its path.
#
# Exit 77: cannot be had on this machine (said why); the test is skipped then.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../etc/setup/lib.sh"

key=$(cat "$here"/go.mod "$here"/go.sum "$here"/main.go | sha256sum | cut -c1-12)
collector=$CACHE/collector/$key/collector

go=$(command -v go || true)
minor=$([ -z "$go" ] || "$go" version | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
if [ "${minor:-0}" -lt 26 ] && [ ! -e "$collector" ]; then
	say "no collector for the test: Go 1.26 or newer is needed; install it and run this again"
	exit 77
fi

cache_lock collector
if [ ! -e "$collector" ]; then
	say "building an OpenTelemetry Collector (a minute or two, once)"
	cache_scratch collector
	cp "$here"/{go.mod,go.sum,main.go} "$SCRATCH"
	(cd "$SCRATCH" && GOTOOLCHAIN=local GOPATH=$SCRATCH/gopath GOCACHE=$SCRATCH/gocache GOFLAGS="-modcacherw -buildvcs=false -mod=readonly" \
		CGO_ENABLED=0 "$go" build -trimpath -ldflags "-s -w" -o made .) >&2 || die "building the collector failed (see above)"
	mkdir -p "$(dirname "$collector")"
	mv "$SCRATCH/made" "$collector"
fi
printf '%s\n' "$collector"
