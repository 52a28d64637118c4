"""The examples receive and verify what the forwarder posts, and refuse what it did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.forwarding.conftest import Rig, mails
from tests.servers.processes import free_port

EXAMPLES = Path(__file__).parents[3] / "sdk" / "examples"
COMMANDS = {"webhook_receiver.py": sys.executable, "webhook_receiver.mjs": "node"}


@pytest.fixture(params=sorted(COMMANDS))
def program(request: pytest.FixtureRequest) -> tuple[str, str]:
    command = shutil.which(COMMANDS[request.param])
    assert command is not None
    return command, str(EXAMPLES / request.param)


@pytest.fixture
def port() -> Iterator[int]:
    yield free_port()


def test_it_prints_what_came_and_refuses_what_is_forged(
    redis_rig: Rig, program: tuple[str, str], port: int
) -> None:
    url = f"http://127.0.0.1:{port}/"
    handler, secret = redis_rig.add(url)
    process = subprocess.Popen(
        [*program, str(port)], env={"WEBHOOK_SECRET": secret}, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert httpx.post(url, content=b"{}").status_code == 401
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        redis_rig.publish(handler, mails(3))
        redis_rig.stack.start("forwarder")
        redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=20)
    wanted = [f"ann@example.org: Mail {number}" for number in range(3)]
    assert sorted(printed.splitlines()) == wanted
