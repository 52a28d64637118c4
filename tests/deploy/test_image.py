"""The image, where a Docker engine has it: as any user, with nothing writable but /tmp.

`make image-check` builds it, with an engine of its own where none runs, and runs these tests.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT
from tests.rig.containers import HARDENED, IMAGE, Containers, docker
from tests.rig.mails import digests, mixed
from tests.rig.queue_events import emptied, open_queue
from tests.rig.rollout import Rollout
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

COUNT = 2000
ONE_EACH = {"scheduler": 1, "fetcher": 1, "decryptor": 1, "forwarder": 1, "admin": 1}


pytestmark = [pytest.mark.slow, pytest.mark.image]


@pytest.fixture
def stack(empty_database_url: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose services run in containers; the image itself has migrated its database."""
    containers = Containers(folders=[tmp_path / "store"])
    broker = emptied(redis_server.url.rpartition("/")[0] + "/8")
    try:
        with Stack(empty_database_url, broker, tmp_path, forkserver=containers) as built:
            migration = containers.fork(
                "migrate", built.environment_of("migrate"), built.log_of("migrate")
            )
            migration.wait(120)
            assert migration.poll() == 0, built.log_of("migrate").read_text()
            yield built
    finally:
        containers.close()


def test_every_service_starts_and_ends_as_any_user_on_a_read_only_root(
    stack: Stack, postgres: PostgresServer
) -> None:
    rollout = Rollout(stack, ONE_EACH)
    ended = list(stack.processes)
    for service in ONE_EACH:
        rollout.restart(service)
    assert [container.poll() for container in ended] == [0] * len(ONE_EACH)


@pytest.mark.promise("I1", "I3", "I4")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_two_thousand_mails_exactly_once(
    after_download: str, stack: Stack, dovecot: Dovecot, mail_user: str
) -> None:
    mails = list(mixed(COUNT, seed=7))
    dovecot.deliver(mail_user, mails)
    stack.add_handler()
    stack.start("scheduler", "scheduler", "fetcher", "fetcher", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user, after_download=after_download)
    stack.wait_settled(COUNT, seconds=180)
    stack.stop()
    events = open_queue(stack.broker_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    assert len({event["id"] for event in events}) == COUNT
    left = dovecot.flags(mail_user)
    if after_download == "delete":
        assert left == {}
    else:
        assert len(left) == COUNT
        assert all("\\Seen" in flags for flags in left.values())


def test_nothing_to_build_or_install_with_is_inside() -> None:
    for command in ("cc", "gcc", "make", "perl", "pip", "pip3", "apt", "apt-get", "dpkg"):
        found = docker("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", f"command -v {command}")
        assert found.stdout == "", command


def test_no_program_makes_anybody_another_user() -> None:
    found = docker(
        "run", "--rm", "-u", "0", "--entrypoint", "find", IMAGE, "/", "-xdev", "-perm", "/6000",
        "-type", "f",
    )  # fmt: skip
    assert found.stdout == ""


def test_its_labels_tell_version_and_revision() -> None:
    found = docker("image", "inspect", IMAGE, "--format", "{{json .Config.Labels}}")
    labels = json.loads(found.stdout)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.revision"]


def test_nothing_of_the_root_is_written() -> None:
    written = docker("run", *HARDENED, "--entrypoint", "sh", IMAGE, "-c", "echo x > /opt/x")
    assert written.returncode != 0


def test_it_tells_what_it_is_made_of() -> None:
    found = docker("run", "--rm", "--entrypoint", "cat", IMAGE, "/opt/posthouse/sbom.cdx.json")
    names = {component["name"] for component in json.loads(found.stdout)["components"]}
    assert {"dramatiq", "psycopg", "cryptography", "nkeys"} <= names
    # Of no use once the image is built, or to migrations alone.
    assert not {"pip", "setuptools", "hatchling", "sqlalchemy", "alembic"} & {
        n.lower() for n in names
    }
