#!/bin/sh
# Re-locks every requirements/*.lock from pyproject.toml and the *.in files.
# No index address is written: the locks hold names, versions and hashes only.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
forwards="--extra nats --extra kafka"
lock() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --no-annotate "$@"; }
lock pyproject.toml --extra local $forwards --no-emit-package posthouse requirements/build.in -o requirements/run.lock
lock pyproject.toml --extra local $forwards --no-emit-package posthouse requirements/build.in requirements/dev.in \
    -c requirements/run.lock -o requirements/dev.lock
lock pyproject.toml $forwards --no-emit-package posthouse requirements/image.in \
    -c requirements/run.lock -o requirements/image.lock
lock requirements/fuzz.in -o requirements/fuzz.lock
lock requirements/sbom.in -o requirements/sbom.lock
lock requirements/policy.in -o requirements/policy.lock
lock requirements/installer.in -o requirements/installer.lock
lock requirements/backend.in -o requirements/backend.lock
