#!/bin/sh
# Makes a base image for deploy/Dockerfile out of Debian 13's packages, where none can be pulled: a
# minimal system with Python 3.13, and the certificate authorities that this machine trusts.
#
#   deploy/image/base.sh posthouse-base
#   docker build -f deploy/Dockerfile --build-arg BASE=posthouse-base -t posthouse:0.1.0 .
#
# Needs root, mmdebstrap, a Docker engine, and Debian or what has its keys. Takes about a minute.
set -eu
name=${1:-posthouse-base}
[ "$(id -u)" = 0 ] || { echo "mmdebstrap needs root here" >&2; exit 1; }
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mmdebstrap --quiet --mode=root --variant=essential --aptopt='APT::Install-Recommends "false"' \
    --include=python3,python3-venv,ca-certificates,libstdc++6 trixie "$place/root" "deb $mirror trixie main" \
    >"$place/log" 2>&1 || { tail -n 20 "$place/log" >&2; exit 1; }
root=$place/root
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["python3"]' - "$name"
