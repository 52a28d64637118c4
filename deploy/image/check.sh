#!/bin/sh
# Builds the image and tests it in containers (tests/deploy/test_image.py), and in the composition as
# it is, scaled, killed and restarted (tests/deploy/test_composition.py), on a Docker engine that is
# started for it and ends with it: `make image-check`. Single containers use the host's network, where
# the tests' servers listen.
#
# Needs root on Debian with docker.io and mmdebstrap. Where images can be pulled, set BASE to one, and
# the others are pulled as well (Compose 2 is needed then):
# `BASE=python:3.13-slim-bookworm deploy/image/check.sh`.
set -eu
cd "$(dirname "$0")/../.."
. deploy/image/engine.sh
made=""
if [ -z "${BASE:-}" ]; then
    made=yes
    BASE=posthouse-base
    deploy/image/base.sh "$BASE"
fi
docker build --network host -f deploy/Dockerfile --build-arg BASE="$BASE" \
    --build-arg REVISION="$(git rev-parse HEAD)" --build-arg PIP_OPTIONS="${PIP_OPTIONS:-}" \
    -t posthouse:0.1.0 .
tests() { .venv/bin/python -m pytest -n 0 "$@" || [ $? = 5 ]; } # 5: options chose none of them
tests tests/deploy/test_image.py "$@"
# After those tests, whose own Postgres would be a container of such an image.
[ -z "$made" ] || deploy/image/stand_ins.sh
docker image ls
tests tests/deploy/test_composition.py "$@"
