#!/bin/sh
# Installs the programs that the benches are measured beside, where they are missing (Debian).
set -eu
missing=""
for pair in mbsync:isync fetchmail:fetchmail; do
    [ -e "/usr/bin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
echo "installing for the benches:$missing"
command -v apt-get >/dev/null || { echo "install these by hand:$missing" >&2; exit 1; }
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
