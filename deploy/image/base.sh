#!/bin/sh
# Makes a base image for deploy/Dockerfile out of this machine's Debian packages, where none can be
# pulled: a minimal system with Python, and the certificate authorities that this machine trusts.
#
#   deploy/image/base.sh posthouse-base
#   docker build -f deploy/Dockerfile --build-arg BASE=posthouse-base -t posthouse:0.1.0 .
#
# Needs root, debootstrap and a Docker engine. Takes about a minute.
set -eu
name=${1:-posthouse-base}
[ "$(id -u)" = 0 ] || { echo "debootstrap needs root" >&2; exit 1; }
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$release" "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; exit 1; }
rm -f "$root.log"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["python3"]' - "$name"
