"""Broken mails: each has facts that can be sent and kept, and none takes the reader down.

`FUZZED_MAILS=10000` in the environment makes it a long run (`make fuzz-facts`).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import jsonschema
import pytest

from posthouse.contents import part_of
from posthouse.mail import read_mail
from shared.mail.facts import read_facts
from shared.mail.parts import find_part
from shared.mail.region import region
from shared.mail.structure import read_structure
from shared.mail.summary import findings_to_json
from shared.rules.facts import kept
from tests.rig.tnef_writer import file, message, stream

pytestmark = pytest.mark.promise("F4")
_TESTS = Path(__file__).parents[2]
_SCHEMA = json.loads((_TESTS.parent / "sdk" / "schema" / "mail-received.v1.json").read_text())
_COUNT = int(os.environ.get("FUZZED_MAILS", "500"))
_BITS = (
    b"\r\n", b"\n", b"\r", b"\0", b"--", b"=?utf-8?B?", b"?=", b"<", b">", b'"', b"(", b";",
    b"Content-Type: multipart/mixed; boundary=x\r\n", b"--x\r\n", b"--x--\r\n", b"\xff\xfe",
    b"=\r\n", b"\xed\xa0\x80",
    b"Authentication-Results: mx.example; spf=pass\r\n", b"X-Spam-Status: Yes, score=9\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"References: <a@b> <c@d>\r\n", b"List-Id: <a.b>\r\n",
)  # fmt: skip


def seeds() -> list[bytes]:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Ann <a@example.org>", "b@example.org", "Größe"
    made["Message-ID"], made["References"] = "<3@example.org>", "<1@example.org> <2@example.org>"
    made["Authentication-Results"] = "mx.example; dkim=pass header.d=example.org; spf=fail"
    made.set_content("Hello\n" * 20)
    made.add_alternative("<p>Hello <b>you</b></p>", subtype="html")
    packed = stream(file(b"A.TXT", b"x" * 50, "ä.txt"), message(b"m", stream(file(b"B", b"y"))))
    made.add_attachment(packed, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    outer = EmailMessage()
    outer["From"], outer["Content-Disposition"] = "<>", "inline"
    outer.set_content("Your message could not be delivered")
    outer.add_attachment(made)
    outer["Auto-Submitted"] = "auto-replied"
    cases = sorted((_TESTS / "data" / "mail" / "headers").glob("*.eml"))
    return [made.as_bytes(), outer.as_bytes(), *(path.read_bytes()[:20_000] for path in cases)]


def broken(count: int) -> Iterator[bytes]:
    chance = random.Random(4711)
    known = seeds()
    for _ in range(count):
        mail = bytearray(chance.choice(known[:2] if chance.random() < 0.5 else known))
        for _ in range(chance.randrange(1, 12)):
            at = chance.randrange(len(mail) + 1)
            match chance.randrange(4):
                case 0:
                    mail[at:at] = chance.choice(_BITS)
                case 1:
                    del mail[at : at + chance.randrange(1, 200)]
                case 2:
                    mail[at : at + 1] = chance.randbytes(1)
                case _:
                    start = chance.randrange(len(mail) + 1)
                    mail[at:at] = mail[start : start + chance.randrange(300)]
        yield bytes(mail)


def test_every_broken_mail_has_facts() -> None:
    """Of the form that the event promises, with parts that are there at their addresses."""
    form = _SCHEMA["$defs"]["data"]["properties"]["mail"]
    validator = jsonschema.Draft202012Validator({**form, "$defs": _SCHEMA["$defs"]})
    for number, raw in enumerate(broken(_COUNT)):
        facts = read_facts(region(raw), trusted=("mx.example",), text_limit=4096)
        told = facts.to_json() | {"findings": findings_to_json(facts.findings)}
        wire = json.loads(json.dumps(told).encode("utf-8"))
        event = wire | {
            "findings": [{"kind": one["kind"], "detail": one["detail"]} for one in wire["findings"]]
        }
        errors = [str(error.message) for error in validator.iter_errors(event)]
        assert not [one for one in errors if "required" not in one], (number, errors[:3])
        read = read_mail(wire)
        json.dumps(kept(told)).encode("utf-8")
        root = read_structure(region(raw))
        for one in facts.parts[:20]:
            placed = find_part(root, one.path)
            assert placed is not None, (number, one.path)
            octets = b"".join(placed.content())
            assert len(octets) == one.size, (number, one.path)
            opened = part_of(raw, one.path, read.parts).read()
            assert opened == octets, (number, one.path)
