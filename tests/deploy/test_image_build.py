"""`make image` builds from a base that stays the same, and says what the image was made of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT

DIGEST = "python:3.13-slim-bookworm@sha256:" + "0123456789abcdef" * 4


def built(folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """What `make image` says, and the arguments that it gives to the engine."""
    engine = folder / "docker"
    engine.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n')
    engine.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "image", *(f"{name}={value}" for name, value in variables.items())],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    given = folder / "arguments"
    return done, given.read_text() if given.exists() else ""


@pytest.mark.parametrize(
    "base",
    [
        "",
        "python:3.13-slim-bookworm",
        "python@sha256:0123",
        "@sha256:" + "0" * 64,
        DIGEST + "0",
        DIGEST.upper(),
    ],
)
def test_a_base_that_is_another_one_tomorrow_is_refused(base: str, tmp_path: Path) -> None:
    done, given = built(tmp_path, BASE=base, TAG="registry.example.com/posthouse:1")
    assert done.returncode != 0
    assert "BASE has to be an image by its digest" in done.stderr
    assert not given


def test_a_base_by_digest_is_built_from_with_the_commit_in_its_labels(tmp_path: Path) -> None:
    done, given = built(tmp_path, BASE=DIGEST, TAG="registry.example.com/posthouse:1")
    assert done.returncode == 0, done.stderr
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"BASE={DIGEST}\n" in given
    assert f"REVISION={head.stdout.strip()}" in given
    assert "-t\nregistry.example.com/posthouse:1\n.\n" in given


def test_an_image_without_a_name_is_not_built(tmp_path: Path) -> None:
    done, given = built(tmp_path, BASE=DIGEST)
    assert done.returncode != 0
    assert "TAG" in done.stderr
    assert not given


def test_the_labels_name_the_base() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    label = 'org.opencontainers.image.base.name="${BASE}"'
    assert label in text
    # Known in a stage only where it is asked for there.
    assert "\nARG BASE\n" in text[text.rindex("\nFROM ") : text.index(label)]
