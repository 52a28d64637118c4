"""Docker Compose itself accepts deploy/compose.yaml, and reads it as it is meant."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import ROOT

FOLDER = ROOT / "deploy"


def configured(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`docker compose config` of `text`; by the stand-alone command where that is what is there."""
    plugin = ["docker", "compose"]
    has_plugin = (
        shutil.which("docker") is not None
        and subprocess.run([*plugin, "version"], capture_output=True).returncode == 0
    )
    if not has_plugin:
        alone = shutil.which("docker-compose")
        assert alone, "Docker Compose is missing: `make servers` installs it."
        plugin = [alone]
        told = subprocess.run([alone, "version", "--short"], capture_output=True, text=True)
        if told.stdout.startswith("1."):
            # The last of its line (1.29) knows all of the file but the project's name.
            text = re.sub(r"^name: .*$", "", text, flags=re.MULTILINE)
    return subprocess.run(
        [*plugin, "-f", "-", *options, "config"],
        input=text,
        capture_output=True,
        text=True,
        cwd=FOLDER,
    )


@pytest.fixture(scope="module")
def text() -> str:
    return (FOLDER / "compose.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", ["", "rabbitmq"])
def test_compose_accepts_it(text: str, profile: str) -> None:
    done = configured(text, *(["--profile", profile] if profile else []))
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    # 1.29 lists every service whatever the profile; a profile that is asked for is always there.
    assert {"scheduler", "fetcher", "decryptor", "forwarder", "admin", "postgres", "redis"} <= set(
        services
    )
    assert "rabbitmq" in services or not profile
    for name in ("scheduler", "fetcher", "decryptor", "forwarder", "admin"):
        assert services[name]["read_only"] is True
        assert services[name]["environment"]["POSTHOUSE_DATABASE_URL"].startswith("postgresql://")


def test_compose_would_refuse_what_it_does_not_know(text: str) -> None:
    spelt_wrong = text.replace("    stop_grace_period: 45s\n", "    stop_grace: 45s\n", 1)
    assert spelt_wrong != text
    assert configured(spelt_wrong).returncode != 0
