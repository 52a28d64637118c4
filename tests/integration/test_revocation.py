"""Revocation is learned in the background from an authority that OpenSSL runs."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from services.scheduler.revocation import learn
from shared.allowed_hosts import HostRules
from shared.certificates.revocation import check_list, issuer_key, question, read_list
from shared.clock import utc_now
from shared.revocations import Revocation
from shared.settings import INSTANCE_SECRETS
from shared.storage import revocations
from shared.storage.pool import Database
from shared.storage.retention import drop_stale_rows
from tests.integration.api.conftest import Api
from tests.rig.stack import Stack
from tests.servers.openssl_ca import AuthorityHost, Issued, OpensslCa
from tests.servers.processes import free_port

HOSTS = HostRules.parse((), INSTANCE_SECRETS)


class Learning:
    """A scheduler's work by hand, on a database of its own under the scheduler's role."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def note(self, ca: OpensslCa, *issued: Issued) -> None:
        """As a decryptor does that believed a mail, under its own role."""
        with (
            Database(self.stack.url_of("decryptor"), size=1) as database,
            database.transaction() as session,
        ):
            revocations.note(
                session,
                [
                    revocations.Noted(
                        fingerprint(one.certificate),
                        one.certificate.public_bytes(Encoding.DER),
                        ca.certificate.public_bytes(Encoding.DER),
                        issuer_key(ca.certificate),
                        one.certificate.not_valid_after_utc,
                    )
                    for one in issued
                ],
            )

    def learn(self, hosts: HostRules = HOSTS) -> int:
        with Database(self.stack.url_of("scheduler"), size=4) as database:
            return learn(database, hosts)

    def hasten(self, *, hosts: bool = True) -> None:
        """Everything is due now."""
        self.execute("UPDATE revocation SET next_attempt_at = now()")
        self.execute("UPDATE revocation_list SET refresh_at = now()")
        if hosts:
            self.execute("UPDATE revocation_host SET not_before = now()")

    def of(self, issued: Issued) -> Revocation:
        with self.stack.database.transaction() as session:
            found = {one.fingerprint: one.revocation for one in revocations.known(session)}
        return found[fingerprint(issued.certificate)].at(utc_now())

    def error_of(self, issued: Issued) -> str:
        query = "SELECT error FROM revocation WHERE fingerprint = %s"
        with psycopg.connect(self.stack.database_url) as session:
            row = session.execute(query, (fingerprint(issued.certificate),)).fetchone()
        assert row is not None
        return str(row[0])

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.stack.database_url) as session:
            session.execute(statement)


def fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


@pytest.fixture
def learning(build_stack: Callable[..., Stack]) -> Learning:
    return Learning(build_stack("redis://unused"))


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    return OpensslCa(tmp_path / "ca")


def test_a_list_is_fetched_once_for_all_its_certificates(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    lists = [authority_host.url("/ca.crl")]
    alice, stolen = (ca.issue(f"{n}@example.org", lists=lists) for n in ("alice", "stolen"))
    ca.revoke(stolen, "keyCompromise")
    authority_host.answers["/ca.crl"] = ca.published()
    learning.note(ca, alice, stolen)
    assert learning.of(alice).status == "not-checked"
    assert learning.learn() == 2
    assert (learning.of(alice).status, learning.of(stolen).status) == ("good", "revoked")
    later = ca.issue("later@example.org", lists=lists)
    learning.note(ca, later)
    assert learning.learn() == 1
    assert learning.of(later).status == "good", "the list that is there is used"
    assert authority_host.asked == ["/ca.crl"]
    assert learning.learn() == 0


def test_a_responder_is_asked_where_there_is_no_list(learning: Learning, ca: OpensslCa) -> None:
    port = free_port()
    alice = ca.issue("alice@example.org", responders=[f"http://127.0.0.1:{port}"])
    learning.note(ca, alice)
    with ca.responder(port, "-ndays", "1"):
        learning.learn()
        assert (learning.of(alice).status, learning.of(alice).source) == ("good", "ocsp")
    ca.revoke(alice, "superseded")
    learning.hasten()
    with ca.responder(port, "-ndays", "1"):
        learning.learn()
    assert (learning.of(alice).status, learning.of(alice).reason) == ("revoked", "superseded")
    learning.hasten()
    learning.learn()
    assert learning.of(alice).status == "revoked", "it stays known when nobody answers"


def test_a_hold_ends_and_a_replayed_list_brings_nothing_back(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    learning.note(ca, alice)
    old = ca.published("-crl_lastupdate", f"{utc_now() - timedelta(hours=2):%Y%m%d%H%M%SZ}",
                  "-crl_nextupdate", f"{utc_now() + timedelta(days=2):%Y%m%d%H%M%SZ}")  # fmt: skip
    database = (ca.folder / "index.txt").read_text()
    ca.revoke(alice, "certificateHold")
    authority_host.answers["/ca.crl"] = ca.published()
    learning.learn()
    assert (learning.of(alice).status, learning.of(alice).reason) == ("revoked", "certificateHold")
    authority_host.answers["/ca.crl"] = old
    learning.hasten()
    learning.learn()
    assert learning.of(alice).status == "revoked"
    (ca.folder / "index.txt").write_text(database)
    time.sleep(1.1)  # lists are dated to the second
    authority_host.answers["/ca.crl"] = ca.published()
    learning.hasten()
    learning.learn()
    assert learning.of(alice).status == "good"


def test_a_replayed_answer_ends_no_hold(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    alice = ca.issue("alice@example.org", responders=[authority_host.url("")])
    asked = question(alice.certificate, ca.certificate)
    path = "/" + quote(base64.b64encode(asked), safe="")
    learning.note(ca, alice)
    old = ca.answer(asked, "-ndays", "1")
    ca.revoke(alice, "certificateHold")
    time.sleep(1.1)  # answers are dated to the second
    authority_host.answers[path] = ca.answer(asked, "-ndays", "1")
    learning.learn()
    assert learning.of(alice).status == "revoked"
    authority_host.answers[path] = old
    learning.hasten()
    learning.learn()
    assert learning.of(alice).status == "revoked"
    assert "older than what is known" in learning.error_of(alice)
    assert authority_host.asked == [path, path]


def redirect(answer: BaseHTTPRequestHandler) -> None:
    answer.send_response(302)
    answer.send_header("Location", "http://169.254.169.254/latest/meta-data/")
    answer.send_header("Content-Length", "0")
    answer.end_headers()


def endless(answer: BaseHTTPRequestHandler) -> None:
    """A gigabyte, or as much of it as is taken."""
    answer.send_response(200)
    answer.send_header("Content-Length", str(1 << 30))
    answer.end_headers()
    try:
        for _ in range(1 << 10):
            answer.wfile.write(bytes(1 << 20))
    except OSError:
        answer.close_connection = True


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (redirect, "answers 302"),
        (endless, "more than 16 MiB"),
        (b"<html>Log in to the hotel's network</html>", "no certificate revocation list"),
        (None, "answers 404"),
    ],
    ids=["redirect-inside", "gigabyte", "a-page", "not-there"],
)
def test_what_does_not_answer_as_it_should_is_left_alone_for_a_while(
    learning: Learning,
    ca: OpensslCa,
    authority_host: AuthorityHost,
    answer: bytes | Callable[[BaseHTTPRequestHandler], None] | None,
    why: str,
) -> None:
    alice, bob = (
        ca.issue(f"{n}@example.org", lists=[authority_host.url(f"/{n}.crl")])
        for n in ("alice", "bob")
    )
    if answer is not None:
        authority_host.answers["/alice.crl"] = answer
    learning.note(ca, alice)
    learning.learn()
    assert learning.of(alice).status == "unknown"
    assert why in learning.error_of(alice)
    assert learning.learn() == 0, "it is put off"
    learning.note(ca, bob)
    learning.learn()
    if why != "no certificate revocation list":
        assert authority_host.asked == ["/alice.crl"], "and so is its host"
        assert "left alone" in learning.error_of(bob)


def test_what_is_good_stays_until_it_is_out_of_date_when_nobody_answers(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    authority_host.answers["/ca.crl"] = ca.published()
    learning.note(ca, alice)
    learning.learn()
    del authority_host.answers["/ca.crl"]
    learning.hasten()
    learning.learn()
    assert learning.of(alice).status == "good"
    learning.execute("UPDATE revocation SET next_update = now()")
    assert learning.of(alice).status == "unknown"


def test_hosts_that_are_denied_are_not_asked(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    inside = ca.issue("a@example.org", lists=["http://169.254.169.254/latest/meta-data/"])
    here = ca.issue("b@example.org", lists=[authority_host.url("/ca.crl")])
    learning.note(ca, inside, here)
    learning.learn(HostRules.parse((), INSTANCE_SECRETS, private=False))
    assert authority_host.asked == []
    for one in (inside, here):
        assert learning.of(one).status == "unknown"
        assert "are not allowed here" in learning.error_of(one)


def test_a_day_has_so_many_requests(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    learning.execute(
        f"INSERT INTO revocation_host (host, requests) VALUES "
        f"('127.0.0.1', {revocations.MOST_REQUESTS_OF_HOST})"
    )
    learning.note(ca, alice)
    learning.learn()
    assert authority_host.asked == []
    learning.execute("UPDATE revocation_host SET day = day - 1")
    authority_host.answers["/ca.crl"] = ca.published()
    learning.hasten()
    learning.learn()
    assert learning.of(alice).status == "good"


def test_who_reads_hostile_mail_cannot_say_what_is_revoked(
    learning: Learning, ca: OpensslCa
) -> None:
    alice = ca.issue("alice@example.org")
    learning.note(ca, alice)
    with psycopg.connect(learning.stack.url_of("decryptor"), autocommit=True) as session:
        for statement in (
            "UPDATE revocation SET status = 'good'",
            "UPDATE revocation SET next_update = now() + interval '1 year'",
            "DELETE FROM revocation",
            "INSERT INTO revocation_host (host) VALUES ('a')",
            "SELECT list FROM revocation_list",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
        with pytest.raises(psycopg.errors.CheckViolation):
            session.execute(
                "INSERT INTO revocation (fingerprint, certificate, issuer, issuer_key, not_after)"
                " VALUES ('\\x00', '\\x01', '\\x02', '\\x03', now())"
            )


def test_an_authority_that_did_not_issue_it_says_nothing(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost, tmp_path: Path
) -> None:
    """A decryptor that is taken over names another authority of the same name."""
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    twin = OpensslCa(tmp_path / "twin")
    authority_host.answers["/ca.crl"] = twin.published()
    learning.note(twin, alice)
    learning.learn()
    assert authority_host.asked == []
    assert learning.of(alice).status == "unknown"


def test_nobody_is_asked_about_an_authority_that_is_trusted_no_longer(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    authority_host.answers["/ca.crl"] = ca.published()
    with Api(learning.stack.database_url, learning.stack.store) as api:
        given = {"file": ("ca.pem", ca.cert.read_bytes())}
        (anchor,) = api.http.post("trust-anchors", files=given).json()
        learning.note(ca, alice)
        assert api.http.delete(f"trust-anchors/{anchor['id']}").status_code == 204
    assert learning.learn() == 0
    assert authority_host.asked == []
    learning.note(ca, alice)
    assert learning.learn() == 1, "a mail was believed by it again"
    assert learning.of(alice).status == "good"


def test_old_rows_go(learning: Learning, ca: OpensslCa, authority_host: AuthorityHost) -> None:
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    authority_host.answers["/ca.crl"] = ca.published()
    learning.note(ca, alice)
    learning.learn()
    learning.execute("UPDATE revocation SET seen_at = now() - interval '91 days'")
    with Database(learning.stack.url_of("scheduler"), size=1) as database:
        gone = drop_stale_rows(database, utc_now(), 30)
    assert (gone["revocation"], gone["revocation_list"]) == (1, 1)


def test_a_list_that_was_given_by_hand_is_asked_first(
    learning: Learning, ca: OpensslCa, authority_host: AuthorityHost
) -> None:
    alice = ca.issue("alice@example.org", lists=[authority_host.url("/ca.crl")])
    ca.revoke(alice, "superseded")
    crl = read_list(ca.published())
    as_of, next_update = check_list(crl, ca.certificate, utc_now())
    with learning.stack.database.transaction() as session:
        revocations.write_list(
            session,
            issuer_key=issuer_key(ca.certificate),
            issuer_name="Example Root",
            address="",
            list=crl.public_bytes(Encoding.DER),
            as_of=as_of,
            next_update=next_update,
            refresh_at=next_update,
        )
    learning.note(ca, alice)
    learning.learn()
    assert learning.of(alice).status == "revoked"
    assert authority_host.asked == []
