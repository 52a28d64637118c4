#!/bin/sh
# Runs unit tests on the Python of the container image (deploy/Dockerfile) where this machine has
# one: as `python3.13`, among pyenv's, or as IMAGE_PYTHON names it. Arguments go to pytest.
#
# What a mail says must not depend on the Python that reads it.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^ARG BASE=python:\([0-9.]*\)-.*/\1/p' deploy/Dockerfile)
for python in "${IMAGE_PYTHON:-}" "$HOME"/.pyenv/versions/"$version"*/bin/python3 "python$version"; do
    [ -n "$python" ] && "$python" -c 'import ssl' 2>/dev/null && break
    python=
done
if [ -z "$python" ]; then
    echo "No Python $version here: the unit tests did not run on the image's."
    exit 0
fi
uv=.venv/bin/uv
home=.venv/python$version
if [ ! -e "$home/.dev" ] || [ requirements/dev.lock -nt "$home/.dev" ]; then
    "$uv" venv --quiet --allow-existing --python "$python" "$home"
    install="$uv pip install --quiet --python $home/bin/python"
    $install --require-hashes -r requirements/dev.lock
    $install --no-deps --no-build-isolation -e sdk -e .
    touch "$home/.dev"
fi
exec "$home/bin/python" -m pytest -p no:cacheprovider "$@"
