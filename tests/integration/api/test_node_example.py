"""The example handler in Node: everything it does comes of the event's JSON and the API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from posthouse.testing import make_event
from shared.mail.facts import read_facts
from shared.mail.region import region
from shared.queueing.output.open import open_output
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_messages import add_mail
from tests.integration.queueing.conftest import SIGNING_KEY, eventually, make_queue, signed
from tests.rig.tnef_writer import file, stream
from tests.servers.node import beside_packages, start

pytestmark = pytest.mark.promise("H2")


def mail(number: int, text: str, *, automatic: bool = False) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["Message-ID"] = "Ann <ann@example.org>", f"<{number}@example.org>"
    made["Subject"] = "Grüße"
    if number > 1:
        made["References"] = "<1@example.org>"
    if automatic:
        made["Auto-Submitted"] = "auto-replied"
    made.set_content(text)
    return made


class Tickets:
    """The example at work on a handler's queue; `folder` has what came of its mails."""

    def __init__(self, api: Api, url: str, folder: Path) -> None:
        self._api = api
        self._handler = f"h-{uuid.uuid4().hex[:12]}"
        self.folder = folder / "tickets"
        self.folder.mkdir()
        self.output = open_output(url)
        make_queue(self.output, self._handler)
        self._program = start(
            beside_packages(folder) / "node_handler.mjs",
            *(url, self._handler, self.folder),
            POSTHOUSE_URL=api.url,
            POSTHOUSE_HANDLER_TOKEN=TOKEN,
            POSTHOUSE_SIGNING_KEY=SIGNING_KEY,
        )

    def close(self) -> None:
        self._program.kill()
        self._program.communicate()
        self.output.close()

    def handle(self, connection: int, made: EmailMessage) -> bytes:
        """Keeps the mail, and gives its event, with the facts of the decryptor, to the example."""
        raw = made.as_bytes()
        message = add_mail(self._api, connection, raw=raw)
        event: dict[str, Any] = json.loads(replace(make_event(raw=raw), id=str(message)).to_json())
        facts = read_facts(region(raw), trusted=(), text_limit=1000).to_json()
        event["data"]["mail"] |= facts
        octets = json.dumps(event).encode()
        self.give(octets)
        return octets

    def give(self, octets: bytes, key: str = SIGNING_KEY) -> None:
        publication = signed(self._handler, octets, json.loads(octets)["id"], key)
        assert all(isinstance(one, str) for one in self.output.publish([publication]))
        eventually(lambda: self.output.inspect(self._handler).drained, seconds=60)

    def dead(self) -> list[str]:
        return [letter.reason for letter in self.output.dead(self._handler)]


@pytest.fixture(params=["redis_server", "rabbit_server"])
def tickets(api: Api, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tickets]:
    made = Tickets(api, request.getfixturevalue(request.param).url, tmp_path)
    yield made
    made.close()


def test_it_opens_a_ticket_attaches_files_and_answers_no_machine(
    api: Api, tickets: Tickets
) -> None:
    connection = api.create()["id"]
    asked = mail(1, "Hallo Welt\n")
    asked.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="../Größe.pdf")
    asked.add_attachment(
        stream(file(b"A.TXT", b"packed")),
        maintype="application",
        subtype="ms-tnef",
        filename="winmail.dat",
    )
    long = "日" * 100 + ".pdf"
    asked.add_attachment(b"long", maintype="application", subtype="pdf", filename=long)
    first = tickets.handle(connection, asked)
    tickets.give(first)  # once more: nothing new comes of it
    tickets.handle(connection, mail(2, "Und noch etwas\n"))
    tickets.handle(connection, mail(3, "I am away\n", automatic=True))
    # What the example has in hand RabbitMQ counts no more; an entry is written last.
    eventually(lambda: len(list(tickets.folder.glob("*/*.json"))) == 3, seconds=60)
    assert tickets.dead() == []
    (ticket,) = tickets.folder.iterdir()
    entries = [json.loads(path.read_text()) for path in ticket.glob("*.json")]
    by_text = {entry["text"]: entry for entry in entries}
    assert set(by_text) == {"Hallo Welt", "Und noch etwas", "I am away"}
    files = {name[7:]: (ticket / name).read_bytes() for name in by_text["Hallo Welt"]["files"]}
    assert set(files) == {"2-_Größe.pdf", "3-winmail.dat", "3.1-A.TXT", f"4-{'日' * 32}.pdf"}
    assert (files["2-_Größe.pdf"], files["3.1-A.TXT"]) == (b"%PDF", b"packed")
    assert by_text["Und noch etwas"]["answer"] == {
        "To": ["ann@example.org"],
        "Subject": "Re: Grüße",
        "In-Reply-To": "<2@example.org>",
        "References": "<1@example.org> <2@example.org>",
    }
    assert by_text["I am away"]["answer"] is None


def test_it_takes_nothing_that_is_not_signed(tickets: Tickets) -> None:
    tickets.give(make_event(raw=mail(1, "x\n").as_bytes()).to_json(), key="f" * 44)
    eventually(tickets.dead, seconds=60)
    assert list(tickets.folder.iterdir()) == []
    assert tickets.dead() == ["not verified: its signature is by no key that is given here"]
