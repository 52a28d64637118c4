"""An authority revokes a certificate: its owner's next mail is not valid, and no mail waits."""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from posthouse.event import MailEvent
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.openssl_ca import AuthorityHost, Issued, OpensslCa
from tests.unit.smime.mails import HEADER, multipart_signed


def signed(name: str, signer: Issued) -> bytes:
    header = HEADER.replace(b"<4711@example.org>", b"<%b@example.org>" % name.encode())
    return header + multipart_signed(signer.cert, signer.key)


@pytest.mark.promise("F2")
def test_the_next_mail_of_a_revoked_signer_is_not_valid(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    authority_host: AuthorityHost,
    tmp_path: Path,
) -> None:
    ca = OpensslCa(tmp_path / "ca")
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    ended = threading.Event()

    def hang(answer: BaseHTTPRequestHandler) -> None:
        ended.wait()
        answer.close_connection = True

    authority_host.answers["/ca.crl"] = hang
    stack = build_stack(redis_url)
    stack.add_handler()

    def events() -> dict[str, dict[str, Any]]:
        found = open_queue(redis_url, "archive").events()
        return {
            one["data"]["headers"]["message_id"].strip("<>").split("@")[0]: one for one in found
        }

    with Api(
        stack.database_url,
        stack.store,
        secret_keys=tuple(stack.secret_keys),
        broker_url=redis_url,
    ) as api:
        given = {"file": ("ca.pem", ca.cert.read_bytes())}
        assert api.http.post("trust-anchors", files=given).status_code == 201
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.watch(dovecot, mail_user)

        # The authority hangs, and mails come through as if it were not there.
        dovecot.deliver(mail_user, [signed("first", alice)])
        stack.wait_settled(1)
        stack.wait(lambda: authority_host.asked == ["/ca.crl"], "the authority is asked")
        dovecot.deliver(mail_user, [signed("second", alice)])
        stack.fetch_now(connection)
        stack.wait_settled(2)
        assert not ended.is_set()
        for one in events().values():
            security = one["data"]["security"]
            assert (security["signature"], security["revocation"]["status"]) == (
                "valid",
                "not-checked",
            )

        # It revokes the certificate, and is heard.
        ended.set()
        ca.revoke(alice, "keyCompromise")
        authority_host.answers["/ca.crl"] = ca.published()
        stack.wait(
            lambda: bool(stack.query("SELECT FROM revocation WHERE failures > 0")), "it failed"
        )
        stack.execute("UPDATE revocation_host SET not_before = now()")
        stack.execute("UPDATE revocation_list SET refresh_at = now()")
        stack.execute("UPDATE revocation SET next_attempt_at = now()")
        known = "SELECT FROM revocation WHERE status = 'revoked'"
        stack.wait(lambda: bool(stack.query(known)), "it is learned")
        # What a decryptor knows is half a minute old at most; a new one knows it at once.
        stack.stop()
        stack.start("scheduler", "fetcher", "decryptor")
        dovecot.deliver(mail_user, [signed("third", alice)])
        stack.hurry()
        stack.wait_settled(3)
        found = events()
        event = found["third"]
        security = event["data"]["security"]
        assert security["signature"] == "revoked"
        revocation = security["revocation"]
        assert (revocation["status"], revocation["source"]) == ("revoked", "crl")
        assert revocation["reason"] == "keyCompromise"
        assert revocation["as_of"] and revocation["revoked_at"]
        read = MailEvent.from_json(json.dumps(event)).security.revocation
        assert read is not None
        assert read.as_of is not None
        assert read.reason == "keyCompromise"

        # History stays, and the page of each mail shows what was known then.
        told = api.http.get(f"messages/{found['first']['id']}").json()
        assert told["security"]["signature"] == "valid"
        with httpx.Client(base_url=api.url, timeout=60) as pages:
            assert log_in(pages, token=TOKEN).status_code == 303
            page = html.unescape(pages.get(f"/mails/{event['id']}").text)
            assert "Right, but the certificate or key of the signer is revoked" in page
            assert "by the list of the authority (CRL)" in page
            before = html.unescape(pages.get(f"/mails/{found['first']['id']}").text)
            assert ">Valid<" in before
            assert "Not checked" in before
            settings = html.unescape(pages.get("/settings").text)
            assert authority_host.url("/ca.crl") in settings
