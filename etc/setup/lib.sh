# shellcheck shell=bash disable=SC2034 # used by those who source this
# Shared by the setup scripts: messages, the cache, downloads. Sourced by bash scripts under `set -euo pipefail`.
#
# The cache (`make clean` leaves it) is ${TANDEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem}. A thing appears in it
# whole or not at all: it is made in $CACHE/tmp and renamed. Standard output is for results, messages go to stderr.

SETUP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$SETUP/../.." && pwd)
CACHE=${TANDEM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tandem}
PYTHON=${PYTHON:-python3}
. "$SETUP/pins.sh"

say() { printf 'tandem: %s\n' "$*" >&2; }

die() {
	printf 'tandem: %s\n' "$@" >&2
	exit 1
}

# cache_lock NAME: holds $CACHE/NAME.lock until this shell exits, so that two runs do not make the same thing at once.
# The descriptor is closed in long-lived children by cache_unlock.
cache_lock() {
	mkdir -p "$CACHE/tmp" 2>/dev/null || die "cannot write the cache $CACHE (set TANDEM_CACHE to another folder)"
	exec 9>"$CACHE/$1.lock"
	flock -n 9 && return
	say "another run is preparing the $1; waiting for it"
	flock 9
}

cache_unlock() { exec 9>&-; }

# cache_scratch NAME, with NAME's lock held: a new empty folder $SCRATCH beside the cache's things, removed when this shell
# exits (or by the next run, if this one is killed).
cache_scratch() {
	rm -rf "$CACHE/tmp/$1".*
	SCRATCH=$(mktemp -d "$CACHE/tmp/$1.XXXXXX")
	trap 'rm -rf "$SCRATCH"' EXIT
}

sha256_is() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

# fetch PACKAGE VERSION FILE SHA256 FOLDER: puts FILE of a PyPI package into FOLDER. A copy in $CACHE/downloads is taken
# first (that is how a machine without a network gets it).
fetch() {
	local package=$1 version=$2 file=$3 sha256=$4 folder=$5
	if sha256_is "$CACHE/downloads/$file" "$sha256"; then
		cp "$CACHE/downloads/$file" "$folder/$file"
		return
	fi
	say "downloading $package $version"
	printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$folder/requirement"
	local choice=(--only-binary "$package")
	[[ $file == *.tar.gz ]] && choice=(--no-binary "$package")
	local bar=(--progress-bar off)
	[ -t 2 ] && bar=()
	"$PYTHON" -m pip download --disable-pip-version-check --no-cache-dir --no-deps --require-hashes "${choice[@]}" \
		"${bar[@]}" --dest "$folder" --requirement "$folder/requirement" >&2 ||
		die "$package $version could not be downloaded from the Python package index (see above)." \
			"Without a network: put $file" \
			"  (SHA-256 $sha256)" \
			"  into $CACHE/downloads and run this again."
	sha256_is "$folder/$file" "$sha256" || die "$file was downloaded, but its SHA-256 is not $sha256"
}

# cpu_has FLAG: does this processor list it?
cpu_has() { grep -qw "^flags.*$1\|^Features.*$1" /proc/cpuinfo; }
