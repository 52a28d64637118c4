#!/bin/sh
# Builds the image that is rolled out, and refuses a base that another day's build would not have:
#
#   make image BASE=python:3.13-slim-bookworm@sha256:… TAG=REGISTRY/posthouse:0.1.0
#
# BASE is named by its digest. `docker buildx imagetools inspect python:3.13-slim-bookworm` tells the
# digest that a tag has today; none is written down here, as it ages with every update of Debian.
# The image's labels name the base and the commit, which is called dirty where files were changed.
set -eu
cd "$(dirname "$0")/../.."
if ! printf '%s\n' "${BASE:-}" | grep -Eq '^[^@]+@sha256:[0-9a-f]{64}$'; then
    echo "BASE has to be an image by its digest, NAME@sha256:… (64 hexadecimal digits), and is" \
        "'${BASE:-}': a tag is another image tomorrow." >&2
    exit 2
fi
[ -n "${TAG:-}" ] || { echo "TAG has to say what the image is to be called." >&2; exit 2; }
revision=$(git describe --always --abbrev=40 --dirty --exclude '*')
docker build -f deploy/Dockerfile --build-arg BASE="$BASE" --build-arg REVISION="$revision" \
    --build-arg PIP_OPTIONS="${PIP_OPTIONS:-}" -t "$TAG" .
echo "Push it, and name it by the digest that the registry gives it: docker push $TAG"
