"""deploy/compose.yaml as it runs: scaled, killed and restarted, with the mails counted.

`make image-check` builds the image and stand-ins for the others, on an engine of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.deploy.manifests import ROOT
from tests.rig.storm_handlers import Recorder
from tests.servers.processes import free_port

HANDLER = "tickets"
#: A burst comes before each disturbance and one after the last.
BURST = 150
REPLICAS = {"fetcher": 3, "decryptor": 2, "scheduler": 2, "forwarder": 1, "admin": 1}
#: Runs in the mailbox' own container: hands mails in over SMTP.
SENDER = """
import smtplib, sys
first, count = map(int, sys.argv[1:])
with smtplib.SMTP("127.0.0.1", 1025) as session:
    for number in range(first, first + count):
        text = f"From: a@example.org\\r\\nSubject: {number}\\r\\n\\r\\nMail {number}.\\r\\n"
        session.sendmail("a@example.org", ["demo@posthouse.example"], text)
"""


pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.timeout(1500)]


class Composition:
    """One project of its own, with everything published on free ports."""

    def __init__(self, broker: str) -> None:
        self.ports = {name: free_port() for name in ("ADMIN", "HANDLERS", "PROMETHEUS")}
        self.name = f"posthouse-{uuid.uuid4().hex[:8]}"
        self.profiles = ["handlers", "monitoring"]
        self.environment = {f"{name}_PORT": str(port) for name, port in self.ports.items()}
        self.broker_url = f"redis://:demo-only@127.0.0.1:{self.ports['HANDLERS']}/0"
        self.sent = 0
        if broker == "rabbitmq":
            # As the head of the file says.
            self.profiles.append("rabbitmq")
            self.environment |= {
                "BROKER_URL": "amqp://posthouse:demo-only@rabbitmq",
                "BROKER_HOST": "rabbitmq",
                "BROKER_PORT": "5672",
            }
            self.broker_url = f"amqp://posthouse:demo-only@127.0.0.1:{self.ports['HANDLERS']}/"

    def compose(self, *arguments: str, seconds: float = 240) -> str:
        command = ["docker", "compose", "-p", self.name, "-f", str(ROOT / "deploy/compose.yaml")]
        for profile in self.profiles:
            command += ["--profile", profile]
        done = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def up(self, **replicas: int) -> None:
        scale = [
            part for name, count in replicas.items() for part in ("--scale", f"{name}={count}")
        ]
        self.compose("up", "--no-build", "--wait", "--detach", *scale)

    def posthouse(self, *arguments: str, service: str = "admin") -> str:
        return self.compose("exec", "-T", service, "posthouse", *arguments)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def send(self, count: int = BURST) -> None:
        self.compose(
            "exec", "-T", "mailbox", "python", "-c", SENDER, str(self.sent), str(count)
        )  # fmt: skip
        self.sent += count

    def crash(self, service: str) -> None:
        """Its first process is killed, not the container: `restart` of the file counts."""
        first = self.containers(service)[0]
        asked = ["docker", "inspect", "--format", "{{.State.Pid}}", first]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        os.kill(int(done.stdout), signal.SIGKILL)

    def metrics(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"http://127.0.0.1:{self.ports['PROMETHEUS']}/api/v1/query", params={"query": query}
        )
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def wait(self, is_so: Callable[[], bool], what: str, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"not in time: {what}\n{self.compose('ps', '-a')}"
            time.sleep(1)


@pytest.fixture(params=["redis", "rabbitmq"])
def composition(request: pytest.FixtureRequest) -> Iterator[Composition]:
    built = Composition(request.param)
    try:
        built.up(**REPLICAS)
        yield built
    finally:
        built.compose("down", "--volumes", "--timeout", "5")


def test_mails_come_exactly_once_scaled_killed_and_restarted(composition: Composition) -> None:
    one = composition
    told = one.compose("logs", "--no-log-prefix", "mailbox")
    (user,) = set(re.findall(r'"user": "([^"]+)"', told))
    token = one.compose("exec", "-T", "admin", "cat", "/run/secrets/posthouse/admin-token")
    api = f"http://127.0.0.1:{one.ports['ADMIN']}/api/v1"
    made = httpx.get(f"{api}/overview", headers={"Authorization": f"Bearer {token}"})
    assert made.is_success, made.text
    one.posthouse("handlers", "add", HANDLER)
    one.posthouse(
        *("connections", "add", "Demo", "--mode", "imap", "--host", "mailbox"),
        *("--set", "port=1143", "--set", "security=none", "--username", user),
        *("--set", "password=demo-only", "--enable", "--acknowledge"),
        *("--start-from", "everything"),
    )
    recorder = Recorder(one.broker_url, HANDLER)
    recorder.start()
    try:
        _disturb(one, recorder, token, api)
    finally:
        recorder.stop()


def _disturb(one: Composition, recorder: Recorder, token: str, api: str) -> None:
    def all_came() -> bool:
        one.posthouse("connections", "fetch", "Demo")
        return len(set(recorder.digests.values())) >= samples + one.sent

    # What a mailbox has at its first start.
    one.wait(lambda: len(recorder.seen) > 0, "the first mails")
    time.sleep(5)
    samples = len(set(recorder.digests.values()))
    one.posthouse("demo", "send", "--smtp", "127.0.0.1:1025", "--subject", "x", service="mailbox")
    samples += 1

    # Every replica is scraped, and nothing is alerted of.
    def scraped() -> bool:
        up = one.metrics('up{job="posthouse"} == 1')
        return len(up) == sum(REPLICAS.values())

    one.wait(scraped, "Prometheus scrapes each replica")
    assert one.metrics('ALERTS{alertstate="firing"}') == []

    one.send()
    one.wait(all_came, "before any disturbance")
    quiet = Counter(recorder.seen)
    assert set(quiet.values()) == {1}

    one.send()
    one.posthouse("connections", "fetch", "Demo")
    one.crash("fetcher")
    one.send()
    one.wait(lambda: len(one.containers("fetcher")) == 3, "it was started anew")
    one.up(**{**REPLICAS, "fetcher": 1})
    one.send()
    one.up(**REPLICAS)
    assert len(one.containers("fetcher")) == 3
    one.crash("decryptor")
    one.crash("decryptor")
    one.send()
    one.compose("restart", "redis" if "redis" in one.broker_url else "rabbitmq")
    one.send()
    one.compose("restart", "postgres")
    one.send()
    one.compose("restart", "scheduler", "admin")
    one.up(**REPLICAS)
    one.send()
    one.wait(all_came, "after all of it", seconds=300)
    time.sleep(5)
    digests = Counter(recorder.digests.values())
    assert len(digests) == samples + one.sent
    # One mail is one event, whatever was repeated of it.
    assert set(digests.values()) == {1}
    shown = httpx.get(f"{api}/overview", headers={"Authorization": f"Bearer {token}"}).json()
    assert shown["connections"] == {"working": 1}
    repeated = sum(recorder.seen.values()) - len(recorder.seen)
    print(f"{samples + one.sent} mails, lost 0, repeated with the same id {repeated}")
