"""Rules of mails whose header is longer than is read: what they ask may stand behind its end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.decryptor.mail_facts import MailFactsReader
from services.decryptor.private_folder import PrivateFolder
from services.decryptor.publishing import ReadyMail, _Batch
from shared.connection_editing import edit
from shared.mail.fields import HEADER_LIMIT
from shared.mail.summary import read_headers
from shared.mail_security import PLAIN
from shared.messages import DecryptOutcome, RawRef
from shared.rules.facts import RuleFacts
from shared.rules.ruleset import read_rules
from shared.storage.outbox_claims import Claimed
from shared.store import FileStore

BEGINNING = b"From: ann@example.org\r\nSubject: Printer\r\n"
WANTED = b"X-Wanted: yes\r\n"


def header_of(size: int, end: bytes = b"") -> bytes:
    """A header block of few fields, of just so many octets, the last ones of which are `end`."""
    block = BEGINNING
    left = size - len(BEGINNING) - len(end)
    while left:
        field = left if left < 2000 else 1500
        block += b"X-Filler: " + b"y" * (field - 12) + b"\r\n"
        left -= field
    return block + end


def facts_of(mail: bytes, folder: Path, inline_max_bytes: int) -> RuleFacts:
    """What a decryptor asks rules about, of a mail that lies in the store."""
    given = {"name": "Desk", "mode": "imap", "host": "mx.example.org", "username": "desk"}
    change = edit(None, {**given, "password": "x", "trusted_servers": "mx.example.org"})
    store = FileStore(folder / "store")
    with store.pack() as pack:
        pack.write(mail)
        pack.commit()
        key = pack.key
    now, nobody, raw = datetime.now(UTC), frozenset[int](), RawRef(key, 0, len(mail))
    headers = read_headers(mail)
    one = Claimed(UUID(int=1), 1, 1, len(mail), b"", raw, headers, now, None, 0, True, nobody, None)
    ready = {one.id: ReadyMail(DecryptOutcome(one.id, PLAIN))}
    private = PrivateFolder(folder / "private")
    try:
        batch = _Batch(
            ready, {1: change.connection}, store, MailFactsReader(0, private), inline_max_bytes
        )
        return batch.rule_facts(one, with_header=True)
    finally:
        private.close()


def answer(rule: dict[str, Any], facts: RuleFacts) -> bool | None:
    return read_rules({"accept": [rule]}).judge(facts).takes


@pytest.mark.promise("R1")
@pytest.mark.parametrize("inline_max_bytes", [0, 2**20], ids=["stored", "inline"])
def test_a_field_behind_what_is_read_of_a_header_is_in_doubt(
    tmp_path: Path, inline_max_bytes: int
) -> None:
    mail = header_of(HEADER_LIMIT + len(WANTED), WANTED) + b"\r\nHi\r\n"
    found = facts_of(mail, tmp_path, inline_max_bytes)
    assert answer({"header": "X-Wanted"}, found) is None
    assert answer({"header": "X-Filler: y"}, found) is True


@pytest.mark.parametrize("inline_max_bytes", [0, 2**20], ids=["stored", "inline"])
@pytest.mark.parametrize("size", [1000, HEADER_LIMIT])
def test_a_field_that_a_whole_header_does_not_have_is_not_there_however_long_the_mail(
    tmp_path: Path, inline_max_bytes: int, size: int
) -> None:
    mail = header_of(size, WANTED) + b"\r\n" + b"Hi\r\n" * (HEADER_LIMIT // 4)
    found = facts_of(mail, tmp_path, inline_max_bytes)
    assert answer({"header": "X-Wanted"}, found) is True
    assert answer({"header": "X-Other"}, found) is False


#: What a mail may be whose header goes on behind what is read of it, and a rule that wants it.
HIDDEN = [
    (b"From: ann@example.org\r\n", {"sender": "ann@example.org"}, 'sender == "ann@example.org"'),
    (b"Subject: Printer\r\n", {"subject": "printer"}, 'subject.contains("Printer")'),
    (b"To: desk@example.org\r\n", {"recipient": "@example.org"}, "recipients.size() > 0"),
    (b"Delivered-To: a+b@example.org\r\n", {"tag": "b"}, '"b" in tags'),
    (b"Auto-Submitted: auto-replied\r\n", {"kind": "auto-reply"}, 'kind == "auto-reply"'),
    (
        b"Authentication-Results: mx.example.org; dmarc=pass\r\n",
        {"authentication": "dmarc=pass"},
        '"dmarc=pass" in authentication',
    ),
    (b"Content-Type: image/png\r\n", {"part": "image/*"}, 'parts.exists(p, p == "image/png")'),
    (
        b"Content-Type: application/pkcs7-mime\r\n",
        {"encrypted": True, "signature": "invalid"},
        'encrypted && signature == "invalid"',
    ),
]


@pytest.mark.promise("R1")
@pytest.mark.parametrize("hidden, rule, expression", HIDDEN, ids=[str(one[1]) for one in HIDDEN])
def test_no_fact_is_denied_that_may_stand_behind_what_is_read_of_a_header(
    tmp_path: Path, hidden: bytes, rule: dict[str, Any], expression: str
) -> None:
    filler = b"X-Filler: " + b"y" * 1000 + b"\r\n"
    mail = filler * (HEADER_LIMIT // len(filler) + 1) + hidden + b"\r\nHi\r\n"
    found = facts_of(mail, tmp_path, 2**20)
    assert answer(rule, found) is None
    assert read_rules({"expression": expression}).judge(found).takes is None
    # Nor is the opposite said for certain.
    assert read_rules({"reject": [rule]}).judge(found).takes is None
    # Where the header ends before the limit, all of it is known.
    found = facts_of(filler + b"\r\nHi\r\n", tmp_path, 2**20)
    assert answer(rule, found) is False
    assert read_rules({"expression": expression}).judge(found).takes is False


@pytest.mark.promise("R1")
def test_what_stands_before_the_end_of_a_long_header_counts(tmp_path: Path) -> None:
    mail = b"To: desk+a@example.org\r\n" + header_of(HEADER_LIMIT + 1000) + b"\r\nHi\r\n"
    found = facts_of(mail, tmp_path, 2**20)
    for rule, takes in (
        ({"sender": "ann@example.org"}, True),
        ({"sender": "bob@example.org"}, False),
        ({"subject": "printer"}, True),
        ({"subject": "other"}, None),
        ({"recipient": "desk@example.org", "tag": "a"}, True),
        ({"tag": "b"}, None),
        ({"signature": "none"}, None),
        ({"kind": "person"}, None),
        ({"size": "> 1 MB"}, False),
        ({"folder": "INBOX"}, True),
    ):
        assert answer(rule, found) is takes, rule
