"""What a mail says is the same in the ledger and in its event, for mails that others misread."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.mail.summary import findings_to_json, read_headers
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

CASES = Path(__file__).parents[1] / "data" / "mail" / "headers"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CASES / "expected.json").read_text())


@pytest.mark.promise("F1")
def test_ledger_and_event_say_the_same(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    mails = {path.stem: path.read_bytes() for path in sorted(CASES.glob("*.eml"))}
    dovecot.deliver(mail_user, list(mails.values()))
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(len(mails))
    events = {
        event["data"]["headers"]["message_id"]: event["data"]
        for event in open_queue(redis_url, "archive").events()
    }
    rows = {
        row[0]: row[1:]
        for row in stack.query(
            "SELECT message_id, sender, sender_name, recipients, recipient_names, subject, sent_at,"
            " findings FROM message"
        )
    }
    assert len(events) == len(rows) == len(mails)
    for name, mail in mails.items():
        read = read_headers(mail)
        data, row = events[read.message_id], rows[read.message_id]
        said = data["headers"]
        assert said == read.to_json() | {"date": said["date"]}, name
        at = said["date"] and datetime.fromisoformat(said["date"]).astimezone(UTC)
        assert at == read.date, name
        assert row == (
            read.sender,
            read.sender_name,
            list(read.to),
            list(read.to_names) if any(read.to_names) else [],
            read.subject,
            read.date,
            findings_to_json(read.findings) or None,
        ), name
        kinds = [one["kind"] for one in data["mail"]["findings"]]
        assert kinds == [str(one.kind) for one in read.findings], name
        if "subject" in EXPECTED[name]:
            assert said["subject"] == EXPECTED[name]["subject"]
