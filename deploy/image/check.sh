#!/bin/sh
# Builds the image and tests it in containers (tests/deploy/test_image.py), on a Docker engine that
# is started for it and ends with it: `make image-check`. The engine has a socket and a folder of
# its own and touches neither the machine's network nor its firewall: builds and containers use the
# host's network, where the tests' servers listen. An engine that runs already is left alone.
#
# Needs root on Debian with docker.io and debootstrap. Where images can be pulled, set BASE to one:
# `BASE=python:3.13-slim-bookworm deploy/image/check.sh`.
set -eu
cd "$(dirname "$0")/../.."
needed="dockerd docker"
[ -n "${BASE:-}" ] || needed="$needed debootstrap"
for command in $needed; do
    command -v "$command" >/dev/null ||
        { echo "$command is missing: apt-get install docker.io debootstrap" >&2; exit 1; }
done
folder=$(mktemp -d -t posthouse-docker-XXXXXX)
export DOCKER_HOST="unix://$folder/docker.sock"
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" \
    --pidfile "$folder/docker.pid" --bridge none --iptables=false --ip-forward=false \
    >"$folder/dockerd.log" 2>&1 &
engine=$!
finish() {
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    umount "$folder"/exec/netns/* 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM
tries=0
until docker info >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { tail -n 20 "$folder/dockerd.log" >&2; exit 1; }
    sleep 0.5
done
if [ -z "${BASE:-}" ]; then
    BASE=posthouse-base
    deploy/image/base.sh "$BASE"
fi
docker build --network host -f deploy/Dockerfile --build-arg BASE="$BASE" \
    --build-arg PIP_OPTIONS="${PIP_OPTIONS:-}" -t posthouse:0.1.0 .
docker image ls
.venv/bin/python -m pytest tests/deploy/test_image.py "$@"
