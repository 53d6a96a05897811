#!/bin/sh
# Installs the system packages that only some tests need. Without them those tests are skipped, and named.
set -eu

packages="bubblewrap util-linux iproute2 gcc g++ libc6-dev libgomp1 cmake"
# Compilers of the exams' languages that are as good from elsewhere.
command -v node >/dev/null 2>&1 || packages="$packages nodejs"
command -v rustc >/dev/null 2>&1 || [ -x "$HOME/.cargo/bin/rustc" ] || packages="$packages rustc"

if ! command -v apt-get >/dev/null 2>&1; then
    echo "This script knows Debian and Ubuntu. Install the equivalents of: $packages" >&2
    exit 2
fi
missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || { echo "all system packages are there"; exit 0; }
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086  # a list of words on purpose
$as_root apt-get install -y -qq --no-install-recommends $missing
