"""The example handler in Node: everything it does comes of the event's JSON and the API."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from posthouse.signing import sign
from posthouse.testing import make_event
from shared.mail.facts import read_facts
from shared.mail.region import region
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_messages import add_mail
from tests.rig.tnef_writer import file, stream

pytestmark = pytest.mark.promise("H2")
_EXAMPLE = Path(__file__).parents[3] / "sdk" / "examples" / "node_handler.mjs"
_KEY = "k" * 44


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


def handled(api: Api, connection: int, made: EmailMessage, folder: Path, *, code: int = 0) -> bytes:
    """Keeps the mail, and gives its event, with the facts of the decryptor, to the example."""
    raw = made.as_bytes()
    message = add_mail(api, connection, raw=raw)
    event: dict[str, Any] = json.loads(replace(make_event(raw=raw), id=str(message)).to_json())
    facts = read_facts(region(raw), trusted=(), text_limit=1000).to_json()
    event["data"]["mail"] |= facts
    octets = json.dumps(event).encode()
    give(api, octets, folder, code)
    return octets


def give(api: Api, octets: bytes, folder: Path, code: int, key: str = _KEY) -> None:
    done = subprocess.run(
        ["node", _EXAMPLE, "tickets", sign("tickets", octets, [key]), folder],
        input=octets,
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "POSTHOUSE_URL": api.url,
            "POSTHOUSE_HANDLER_TOKEN": TOKEN,
            "POSTHOUSE_SIGNING_KEY": _KEY,
        },
    )
    assert done.returncode == code, done.stderr


def test_it_opens_a_ticket_attaches_files_and_answers_no_machine(api: Api, tmp_path: Path) -> None:
    connection = api.create()["id"]
    asked = mail(1, "Hallo Welt\n")
    asked.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="../Größe.pdf")
    asked.add_attachment(
        stream(file(b"A.TXT", b"packed")),
        maintype="application",
        subtype="ms-tnef",
        filename="winmail.dat",
    )
    first = handled(api, connection, asked, tmp_path)
    give(api, first, tmp_path, 0)  # once more: nothing new comes of it
    handled(api, connection, mail(2, "Und noch etwas\n"), tmp_path)
    handled(api, connection, mail(3, "I am away\n", automatic=True), tmp_path)
    (ticket,) = tmp_path.iterdir()
    entries = [json.loads(path.read_text()) for path in ticket.glob("*.json")]
    by_text = {entry["text"]: entry for entry in entries}
    assert set(by_text) == {"Hallo Welt", "Und noch etwas", "I am away"}
    files = {name[7:]: (ticket / name).read_bytes() for name in by_text["Hallo Welt"]["files"]}
    assert set(files) == {"2-_Größe.pdf", "3-winmail.dat", "3.1-A.TXT"}
    assert (files["2-_Größe.pdf"], files["3.1-A.TXT"]) == (b"%PDF", b"packed")
    assert by_text["Und noch etwas"]["answer"] == {
        "To": ["ann@example.org"],
        "Subject": "Re: Grüße",
        "In-Reply-To": "<2@example.org>",
        "References": "<1@example.org> <2@example.org>",
    }
    assert by_text["I am away"]["answer"] is None


def test_it_takes_nothing_that_is_not_signed(api: Api, tmp_path: Path) -> None:
    octets = make_event(raw=mail(1, "x\n").as_bytes()).to_json()
    give(api, octets, tmp_path, 1, key="f" * 44)
    assert list(tmp_path.iterdir()) == []
