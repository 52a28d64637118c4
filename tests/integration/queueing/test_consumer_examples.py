"""The examples of the SDK, run as their readers run them, against real brokers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from posthouse import Part
from posthouse.testing import make_event
from shared.queueing.output import Output, Publication
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import (
    SIGNING_KEY,
    Server,
    eventually,
    make_queue,
)
from tests.integration.queueing.test_consumer import send
from tests.servers.redis import RedisServer

EXAMPLES = Path(__file__).parents[3] / "sdk" / "examples"


class Program:
    """An example, run as its user would."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        self._output = (folder / "output").open("w+b")
        self._process = subprocess.Popen(
            argv,
            cwd=folder,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "POSTHOUSE_SIGNING_KEY": SIGNING_KEY},
        )

    def said(self) -> str:
        assert self._process.poll() is None, "it ended"
        return Path(str(self._output.name)).read_text(encoding="utf-8")

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(40)
        self._output.close()
        return code


@pytest.mark.promise("H2")
def test_the_example_with_the_sdk(
    server: Server, output: Output, handler: str, tmp_path: Path
) -> None:
    make_queue(output, handler)
    argv = [sys.executable, str(EXAMPLES / "python_handler.py"), server.url, handler, "tickets"]
    program = Program(argv, tmp_path)
    asked = EmailMessage()
    asked["From"], asked["Message-ID"] = "ann@example.org", "<../../1@example.org>"
    asked["Subject"] = "Grüße"
    asked.set_content("Hallo Welt\n")
    asked.add_attachment(b"file", maintype="application", subtype="pdf", filename="../a.pdf")
    first = make_event(raw=asked.as_bytes())
    again = EmailMessage()
    again["From"], again["References"], again["Subject"] = (
        "ann@example.org",
        "<../../1@example.org>",
        "Re",
    )
    again.set_content("Und noch etwas\n")
    robot = make_event(subject="away", kind="auto-reply")
    lost = make_event(subject="lost")
    unknown = Part("9", "application/pdf", "x.pdf", "attachment")
    lost = replace(lost, mail=replace(lost.mail, parts=(unknown,)))
    send(output, handler, first, first, make_event(raw=again.as_bytes()), lost, robot)
    eventually(lambda: output.inspect(handler).drained)
    eventually(lambda: "away (auto-reply)" in program.said())
    assert program.said().count("Grüße (person)") == 1  # the second one was known
    assert program.said().count("lost (person)") == 1
    assert "has no x.pdf: the mail has no part 9" in program.said()
    assert program.said().count("would answer with") == 3
    assert "'In-Reply-To': '<../../1@example.org>'" in program.said()
    (file,) = (tmp_path / "tickets").glob("*/*.pdf")
    ticket = file.parent
    assert file.read_bytes() == b"file"
    conversation = (ticket / "conversation.txt").read_text()
    assert conversation.index("Hallo Welt") < conversation.index("Und noch etwas")
    assert program.stop() == 0


@pytest.mark.promise("H2")
def test_the_example_without_the_sdk(
    redis_server: RedisServer, handler: str, tmp_path: Path
) -> None:
    output = open_output(redis_server.url)
    program = Program([str(EXAMPLES / "no_sdk_redis.sh"), redis_server.url, handler], tmp_path)
    time.sleep(0.5)
    make_queue(output, handler)  # it waits until the queue is there
    events = [make_event(subject=f"Grüße \\n {n}", text="x" * 5000) for n in range(5)]
    send(output, handler, *events)
    forged = make_event(subject="forged")
    output.publish([Publication(handler, forged.to_json(), forged.id)])
    eventually(lambda: output.inspect(handler).drained)
    eventually(lambda: "Grüße \\n 4" in program.said())
    assert [one.event_id for one in output.dead(handler)] == [forged.id]
    assert not (tmp_path / f"{forged.id}.eml").exists()
    for event in events:
        assert (tmp_path / f"{event.id}.eml").read_bytes() == event.raw.inline
    program.stop()
    output.close()


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"], ids=["none", "wrong", "user"])
def test_the_example_without_the_sdk_ends_where_redis_refuses_it(
    handler: str, tmp_path: Path, login: str
) -> None:
    with RedisServer(password="right") as server:
        url = f"redis://{login}127.0.0.1:{server.port}/0"
        done = subprocess.run(
            [EXAMPLES / "no_sdk_redis.sh", url, handler],
            cwd=tmp_path,
            env={**os.environ, "POSTHOUSE_SIGNING_KEY": SIGNING_KEY},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert "Redis refuses: " in done.stderr
    assert "NOAUTH" in done.stderr or "WRONGPASS" in done.stderr
