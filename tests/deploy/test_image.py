"""The image, where a Docker engine has it: every service starts as any user, with nothing writable.

Build it first: `docker build -f deploy/Dockerfile -t posthouse:0.1.0 .`
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator

import httpx
import pytest

from shared.vault import new_key
from tests.servers.postgres import PostgresServer
from tests.servers.processes import free_port, wait_until
from tests.servers.redis import RedisServer

IMAGE = "posthouse:0.1.0"


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300)


def image_is_there() -> bool:
    return bool(shutil.which("docker")) and docker("image", "inspect", IMAGE).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not image_is_there(), reason=f"no Docker engine has {IMAGE}"),
]
HARDENED = [
    *("--rm", "--user", "47110:47110", "--read-only", "--tmpfs", "/tmp:mode=1777"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host"),
]


@pytest.fixture
def environment(empty_database_url: str, redis_server: RedisServer) -> list[str]:
    values = {
        "DATABASE_URL": empty_database_url,
        "BROKER_URL": redis_server.url,
        "STORE_URL": "file:///tmp/store",
        "SECRET_KEYS": new_key(),
        "ADMIN_TOKEN": "token",
    }
    return [
        part for name, value in values.items() for part in ("--env", f"POSTHOUSE_{name}={value}")
    ]


@contextlib.contextmanager
def service(name: str, environment: list[str], port: int) -> Iterator[str]:
    """A running service; returns its container's name."""
    container = f"posthouse-{name}-{uuid.uuid4().hex[:8]}"
    chosen = {"PORT": port} if name == "admin" else {"HEALTH_PORT": port}
    more = [part for n, v in chosen.items() for part in ("--env", f"POSTHOUSE_{n}={v}")]
    started = docker(
        "run", "--detach", "--name", container, *HARDENED, *environment, *more, IMAGE, name
    )
    assert started.returncode == 0, started.stderr
    try:
        yield container
    finally:
        docker("kill", container)


def test_every_service_starts_as_any_user_on_a_read_only_root(
    environment: list[str], postgres: PostgresServer
) -> None:
    migrated = docker("run", *HARDENED, *environment, IMAGE, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    for name in ("scheduler", "fetcher", "decryptor", "admin"):
        port = free_port()
        with service(name, environment, port) as container:

            def is_ready(port: int = port) -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
                return False

            wait_until(is_ready, f"{name}: {docker('logs', container).stderr}", seconds=120)
            stopped = docker("stop", "--time", "60", container)
            assert stopped.returncode == 0


def test_nothing_to_build_with_is_inside() -> None:
    for command in ("cc", "gcc", "make", "pip", "pip3"):
        found = docker("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", f"command -v {command}")
        assert found.stdout == "", command


def test_it_tells_what_it_is_made_of() -> None:
    found = docker("run", "--rm", "--entrypoint", "cat", IMAGE, "/opt/posthouse/sbom.cdx.json")
    names = {component["name"] for component in json.loads(found.stdout)["components"]}
    assert {"dramatiq", "psycopg", "cryptography"} <= names
