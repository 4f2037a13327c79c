#!/bin/bash
# deps.sh KIND...: installs the Debian packages that building and running (run), the tests (check), those of the page (ui), the
# benchmark (bench), static analysis (lint), compiling llama.cpp (engine) or Vulkan on an NVIDIA driver (gpu) need. Does nothing, quickly, when
# they are all there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

run=(gcc libc6-dev make pkg-config libnng-dev libmsgpack-dev libcurl4-openssl-dev libconfig-dev libmicrohttpd-dev libgnutls28-dev
	libuv1-dev zlib1g-dev libzstd-dev liblmdb-dev python3 python3-pip ca-certificates curl libgomp1 libstdc++6)
check=("${run[@]}" g++ clang clang-format libclang-rt-14-dev libcmocka-dev nng-utils python3-venv openssl procps scdoc man-db zsh fish systemd prometheus)
ui=(chromium fonts-dejavu-core)
bench=("${run[@]}" nginx-light python3-venv)
lint=("${run[@]}" libcmocka-dev clang-format clang-tidy shellcheck)
engine=(g++ cmake ninja-build python3 python3-pip ca-certificates curl)
gpu=(libvulkan1 libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2)

wanted=()
for kind in "$@"; do
	case $kind in
	run) wanted+=("${run[@]}") ;;
	check) wanted+=("${check[@]}") ;;
	ui) wanted+=("${ui[@]}") ;;
	bench) wanted+=("${bench[@]}") ;;
	lint) wanted+=("${lint[@]}") ;;
	engine) wanted+=("${engine[@]}") ;;
	gpu) wanted+=("${gpu[@]}") ;;
	*) die "usage: deps.sh run|check|ui|bench|lint|engine|gpu..." ;;
	esac
done

if ! command -v dpkg-query >/dev/null; then
	say "not a Debian system: make sure that these are installed: ${wanted[*]}"
	exit 0
fi

# nginx-light is one of several packages that bring an nginx; any will do.
provided() { [ "$1" = nginx-light ] && [ -x /usr/sbin/nginx ]; }

missing=()
installed=$(dpkg-query -W -f='${Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^install ok installed //p') || true
for package in "${wanted[@]}"; do
	grep -qxF "$package" <<<"$installed" || provided "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
	if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		root=(sudo)
	else
		die "these Debian packages are missing, and neither root nor sudo is at hand to install them:" \
			"  ${missing[*]}" \
			"Ask an administrator for: apt-get install ${missing[*]}"
	fi
fi

say "installing: ${missing[*]}"
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -qq)
"${apt[@]}" update </dev/null >&2 || say "apt-get update failed; trying with the lists that are here"
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >&2 ||
	die "apt-get could not install them (see above)"
