"""From a mail server to whoever reads it: one author and one verdict, on the queue, in the API, on
the page of the mail and in the bytes that a handler gets."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.mail.summary import read_headers
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

CASES = Path(__file__).parents[2] / "unit" / "smime" / "cases" / "forged"
MALLORY, BOSS = "mallory@evil.example", "boss@corp.example"
#: The author that is shown, the verdict, the signer, and how the page says it.
MAILS = {
    "00-honest": (MALLORY, "valid", MALLORY, "Valid"),
    "02-inner-from": (BOSS, "mismatch", MALLORY, "Right, but by or for somebody else"),
    "04-encoded-word": (BOSS, "mismatch", MALLORY, "Right, but by or for somebody else"),
    "40-honest": (BOSS, "valid", BOSS, "Valid"),
    "41-text-after-then-fake-end": (BOSS, "invalid", BOSS, "Invalid"),
    "22-genuine+part-in-preamble-by-CR": (
        *(BOSS, "partial", BOSS),
        "Right, but it covers only a part",
    ),
}


@pytest.mark.promise("F2")
def test_author_and_verdict_are_the_same_wherever_they_are_read(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    for name in MAILS:
        own = b"Message-ID: <%b>\r\n" % name.encode()
        whole = (CASES / f"{name}.eml").read_bytes()
        dovecot.deliver(mail_user, [own + re.sub(rb"Message-ID:.*\r?\n", b"", whole, count=1)])
    with Api(
        stack.database_url,
        stack.store,
        secret_keys=tuple(stack.secret_keys),
        broker_url=redis_url,
    ) as api:
        for path, file in (("trust-anchors", "ca.pem"), ("sender-keys", "boss.asc")):
            files = {"file": (file, (CASES / file).read_bytes())}
            answer = api.http.post(path, files=files, data={"name": "given"})
            assert answer.status_code == 201, answer.text
        stack.start("scheduler", "fetcher", "decryptor")
        stack.watch(dovecot, mail_user)
        stack.wait_settled(len(MAILS))
        events = {
            event["data"]["headers"]["message_id"].strip("<>"): event
            for event in open_queue(redis_url, "archive").events()
        }
        assert set(events) == set(MAILS)
        with httpx.Client(base_url=api.url, timeout=60) as pages:
            assert log_in(pages, token=TOKEN).status_code == 303
            for name, (author, verdict, signer, label) in MAILS.items():
                event = events[name]
                data, security = event["data"], event["data"]["security"]
                assert (security["signature"], security["signer"]) == (verdict, signer), name
                assert data["headers"]["from"] == author
                assert [one["address"] for one in data["mail"]["from"]] == [author]
                raw = base64.b64decode(data["raw"]["inline"])
                assert read_headers(raw).sender == author
                assert (b"EVIL" in raw) == (verdict in ("invalid", "partial")), name
                told = api.http.get(f"messages/{event['id']}").json()
                assert told["security"]["signature"] == verdict
                assert told["security"]["signer"] == signer
                assert told["sender"] == author
                assert told["headers"] == data["headers"]
                assert api.http.get(f"messages/{event['id']}/raw").content == raw
                asked = api.http.get(f"messages/{event['id']}/raw", params={"original": True})
                assert asked.content.endswith((CASES / f"{name}.eml").read_bytes()[-500:])
                as_it_came = verdict in ("invalid", "partial")
                assert (asked.content == raw) == as_it_came == ("original" not in data), name
                page = html.unescape(pages.get(f"/mails/{event['id']}").text)
                assert f">{label}<" in page, name
                assert author in page
                facts = api.http.get(f"messages/{event['id']}/facts").json()
                assert facts["findings"] == data["mail"]["findings"]
                kinds = {one["kind"] for one in data["mail"]["findings"]}
                assert all(kind.replace("-", " ") in page for kind in kinds)
                if verdict == "partial":  # what is odd about the structure is said as well
                    assert "text-outside-parts" in kinds
