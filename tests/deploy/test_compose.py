"""Docker Compose itself accepts deploy/compose.yaml, and reads it as it is meant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
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


@pytest.mark.parametrize("profile", ["", "rabbitmq", "handlers", "monitoring"])
def test_compose_accepts_it(text: str, profile: str) -> None:
    done = configured(text, *(["--profile", profile] if profile else []))
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    # 1.29 lists every service whatever the profile; a profile that is asked for is always there.
    assert {"scheduler", "fetcher", "decryptor", "forwarder", "admin", "postgres", "redis"} <= set(
        services
    )
    assert {"monitoring": "prometheus"}.get(profile, profile) in services or not profile
    for name in ("scheduler", "fetcher", "decryptor", "forwarder", "admin"):
        assert services[name]["read_only"] is True
        assert services[name]["environment"]["POSTHOUSE_DATABASE_URL"].startswith("postgresql://")


def test_compose_would_refuse_what_it_does_not_know(text: str) -> None:
    spelt_wrong = text.replace("    stop_grace_period: 45s\n", "    stop_grace: 45s\n", 1)
    assert spelt_wrong != text
    assert configured(spelt_wrong).returncode != 0


def test_what_is_published_is_on_loopback_and_asks_for_a_password(text: str) -> None:
    services = yaml.safe_load(text)["services"]
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert set(published) == {"admin", "handlers", "prometheus"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert services["handlers"]["profiles"] == ["handlers"]
    assert "--requirepass" in services["redis"]["command"]


def test_prometheus_scrapes_every_service_that_has_metrics(text: str) -> None:
    services = yaml.safe_load(text)["services"]
    configuration = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yaml").read_text())
    (job,) = configuration["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    having = {
        name
        for name, one in services.items()
        if "POSTHOUSE_HEALTH_PORT" in one.get("environment", {})
    }
    assert set(found["names"]) == having
    assert "./prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]


def test_the_admin_token_is_made_once_and_can_be_given(text: str, tmp_path: Path) -> None:
    """The script itself, on folders of the test's."""
    script = yaml.safe_load(text)["services"]["permissions"]["command"][2].replace("$$", "$")
    for folder in ("/var/lib/posthouse", "/var/lib/mailbox", "/run/secrets/posthouse"):
        (tmp_path / folder[1:]).mkdir(parents=True)
        script = script.replace(folder, str(tmp_path / folder[1:]))
    script = script.replace("10001:10001", f"{os.getuid()}:{os.getgid()}")
    path = tmp_path / "run/secrets/posthouse/admin-token"

    def started(given: str = "") -> str:
        environment = {"PATH": "/usr/bin:/bin", "ADMIN_TOKEN": given}
        subprocess.run(["sh", "-c", script], env=environment, check=True)
        return path.read_text().strip()

    made = started()
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", made)
    assert path.stat().st_mode & 0o077 == 0
    assert started() == made
    assert started("a token of my own, long") == "a token of my own, long"
    path.unlink()
    assert started() != made


def test_there_is_a_stand_in_for_each_image_of_others(text: str) -> None:
    """`make image-check` runs the composition where none can be pulled."""
    wanted = {one["image"] for one in yaml.safe_load(text)["services"].values()}
    script = (FOLDER / "image" / "stand_ins.sh").read_text()
    assert set(re.findall(r"^stand_in ([^$\s]\S*) ", script, re.MULTILINE)) == {
        image for image in wanted if not image.startswith("posthouse:")
    }
