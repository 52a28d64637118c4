"""What a bounce says, in the forms of many servers: RFC 3464 and 6533, and what each writes."""

from __future__ import annotations

import pytest

from shared.mail.bounces import Bounce
from shared.mail.facts import MailFacts, read_facts
from shared.mail.fields import HeaderBlock, read_fields
from shared.mail.region import region

pytestmark = pytest.mark.promise("F4")

DAEMON = (
    "Return-Path: <>\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example>\nTo: me@a.example\n"
)
COPY = (
    "Return-Path: <me@a.example>\nReceived: from x\nMessage-ID: <1@a.example>\n"
    "From: me@a.example\nTo: bob@gone.example\nSubject: hi\n\nhello\n"
)


def facts(header: str, body: str) -> MailFacts:
    whole = f"{header}\n{body}".replace("\n", "\r\n").encode()
    return read_facts(region(whole), trusted=(), text_limit=0)


def report(
    recipient: str,
    kind: str = "message/delivery-status",
    original: str = "message/rfc822\n\nMessage-ID: <1@a.example>\n\nhello",
) -> tuple[str, str]:
    return (
        f"{DAEMON}MIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n",
        f"--b\n\nSorry.\n--b\nContent-Type: {kind}\n\nReporting-MTA: dns; mx.example\n\n{recipient}"
        f"\n--b\nContent-Type: {original}\n--b--\n",
    )


EXIM = (
    "This message was created automatically by mail delivery software.\n\n"
    "A message that you sent could not be delivered to one or more of its\nrecipients. "
    "This is a permanent error. The following address(es) failed:\n\n  bob@gone.example\n"
    "    SMTP error from remote mail server after RCPT TO:<bob@gone.example>:\n"
    "    host mx.gone.example [192.0.2.1]: 550 5.1.1 unknown user\n\n"
    "------ This is a copy of the message, including all the headers. ------\n\n"
)
QMAIL = (
    "Hi. This is the qmail-send program at mx.example.\n"
    "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    "This is a permanent error; I've given up. Sorry it didn't work out.\n\n<bob@gone.example>:\n"
    "Sorry, no mailbox here by that name. (#5.1.1)\n\n"
    "--- Below this line is a copy of the message.\n\n"
)
GMAIL = (
    "Delivery to the following recipient failed permanently:\n\n     bob@gone.example\n\n"
    "Technical details of permanent failure: \nThe error that the other server returned was:\n"
    "550 5.1.1 unknown user\n\n----- Original message -----\n\n"
)
GMX = (
    "This message was created automatically by mail delivery software.\n\n"
    'The following address failed:\n\n"bob@gone.example":\nSMTP error from remote server for '
    "RCPT TO command, host: mx.gone.example reason: 550 5.1.1 unknown user\n\n"
    "--- The header of the original message is following. ---\n\n"
)
YAHOO = (
    "Message from yahoo.com.\nUnable to deliver message to the following address(es).\n\n"
    "<bob@gone.example>:\n554 delivery error: dd This user doesn't have an account\n\n"
    "--- Original message follows.\n\n"
)
NOTES = (
    "------- Failure Reasons  --------\n\nUser not listed in public Name & Address Book\n"
    "bob@gone.example\n\n------- Returned Message --------\n\n"
)
GROUPWISE = "The message that you sent was undeliverable to:\n\tbob@gone.example (user not found)\n"
POSTFIX = (
    "<bob@gone.example>: host mx.gone.example[192.0.2.1] said: 450 4.2.0 greylisted (in reply)\n"
)
SAID = "550 5.1.1 unknown user"


@pytest.mark.parametrize(
    ("text", "action", "status", "diagnostic"),
    [
        (EXIM, "failed", "5.1.1", SAID),
        (QMAIL, "failed", "5.1.1", "Sorry, no mailbox here by that name. (#5.1.1)"),
        (GMAIL, "failed", "5.1.1", SAID),
        (GMX, "failed", "5.1.1", SAID),
        (YAHOO, "failed", "", "554 delivery error: dd This user doesn't have an account"),
        (NOTES, "", "", "User not listed in public Name & Address Book"),
        (GROUPWISE, "", "", "user not found"),
        (POSTFIX, "", "4.2.0", "450 4.2.0 greylisted (in reply)"),
    ],
    ids=["exim", "qmail", "gmail", "gmx", "yahoo", "notes", "groupwise", "postfix"],
)
def test_a_bounce_in_a_server_s_own_words(
    text: str, action: str, status: str, diagnostic: str
) -> None:
    found = facts(DAEMON, text + COPY)
    expected = Bounce(action, status, "bob@gone.example", diagnostic, "<1@a.example>", True)
    assert found.bounce == expected


def test_of_several_addresses_none_is_guessed() -> None:
    two = GROUPWISE.replace("bob@gone.example", "bob@gone.example, eve@gone.example")
    assert facts(DAEMON, two).bounce == Bounce()
    sender = facts(DAEMON, "Your mail from ME@A.example could not be delivered.\n")
    assert sender.bounce == Bounce()


def test_the_header_names_the_mail_where_no_copy_does() -> None:
    found = facts(f"{DAEMON}References: <0@a.example> <1@a.example>\n", GROUPWISE)
    assert found.bounce is not None
    assert found.bounce.original_message_id == "<1@a.example>"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("Final-Recipient: rfc822; <bob@gone.example>\nAction: Failed (permanent)\n"
         "Status: 5.1.1(bad mailbox)\n", ("failed", "5.1.1", "bob@gone.example")),
        ("Final-Recipient: utf-8; bücher@gone.example\nAction: failed\nStatus: 5.6.7\n",
         ("failed", "5.6.7", "bücher@gone.example")),
        ("Final-Recipient: utf-8; b\\x{FC}cher@gone.example\nAction: failed\nStatus: 5.6.7\n",
         ("failed", "5.6.7", "bücher@gone.example")),
        ("Final-Recipient: utf-8; b\\x{D800}\\x{0}@gone.example\nAction: failed\nStatus: 5.6.7\n",
         ("failed", "5.6.7", "b\\x{D800}\\x{0}@gone.example")),
        ("Final-Recipient: rfc822; b\\x{FC}@gone.example\nAction: failed\nStatus: five\n",
         ("failed", "", "b\\x{FC}@gone.example")),
    ],
    ids=["comments", "utf-8", "embedded", "no-characters", "other-type"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["message/delivery-status", "message/global-delivery-status"])
def test_a_report(fields: str, expected: tuple[str, str, str], kind: str) -> None:
    found = facts(*report(fields, kind)).bounce
    assert found is not None
    assert (found.action, found.status, found.recipient) == expected


@pytest.mark.parametrize("original", ["message/global", "message/global-headers"])
def test_a_mail_in_utf_8_that_came_back(original: str) -> None:
    """RFC 6533 section 4."""
    content = f"{original}\n\nMessage-ID: <ü@a.example>\n\nhello"
    found = facts(*report("Final-Recipient: rfc822; a@b.example\n", original=content))
    assert found.bounce is not None
    assert found.bounce.original_message_id == "<ü@a.example>"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("Return-Path: <MAILER-DAEMON>\nFrom: MAILER-DAEMON@mx.example\n", "bounce"),
        ("Return-Path: < >\nFrom: MAILER-DAEMON@mx.example\n", "bounce"),
        ("Return-Path: <> (null)\nFrom: postmaster@mx.example\n", "bounce"),
        ("Return-Path: <>\nFrom: MAILER-DAEMON (Mail Delivery System)\n", "bounce"),
        ("Return-Path: <>\nFrom: <>\n", "bounce"),
        ("From: MAILER-DAEMON\n", "bounce"),
        ("From: Mail daemon fan club\n", "person"),
        ("Return-Path: <>\nFrom: Ann <ann@a.example>\n", "auto-reply"),
        ("Return-Path: <MAILER-DAEMON@x.example> \nFrom: postmaster@mx.example\n", "person"),
    ],
)
def test_the_null_return_path_however_it_is_noted(header: str, kind: str) -> None:
    assert facts(header, "Sorry.\n").kind == kind


@pytest.mark.parametrize("kind", ["message/rfc822", "message/global"])
@pytest.mark.parametrize("inside", ["delivery-status", "calendar"])
def test_what_is_forwarded_makes_no_kind(kind: str, inside: str) -> None:
    forwarded = {
        "delivery-status": "{}\n{}".format(*report("Final-Recipient: rfc822; a@b.example\n")),
        "calendar": "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\n",
    }[inside]
    found = facts(
        "From: Ann <ann@a.example>\nContent-Type: multipart/mixed; boundary=o\n",
        f"--o\n\nWhat is this?\n--o\nContent-Type: {kind}\n\n{forwarded}\n--o--\n",
    )
    assert (found.kind, found.bounce) == ("person", None)
    assert len(found.parts) > 2


@pytest.mark.parametrize(
    ("diagnostic", "expected"),
    [
        ("Diagnostic-Code: smtp; 550 no\n", ("550 no", False)),
        ("", ("Sorry, nobody here.", True)),
    ],
)
def test_the_text_says_what_a_report_leaves_open(
    diagnostic: str, expected: tuple[str, bool]
) -> None:
    header, body = report(
        f"Final-Recipient: rfc822; bob@gone.example\nAction: failed\n{diagnostic}"
    )
    found = facts(header, body.replace("Sorry.", "bob@gone.example\n  Sorry, nobody here.")).bounce
    assert found is not None
    assert (found.diagnostic, found.diagnostic_is_from_text) == expected


@pytest.mark.parametrize(
    "path", ["Return-Path: <>\n", "X-MS-Exchange-Message-Is-Ndr:\n"], ids=["path", "field"]
)
def test_a_bounce_of_exchange_in_words(path: str) -> None:
    """Its reader sees reasons in words; what the server answered stands below, for others."""
    found = facts(
        f"{path}From: Outlook <postmaster@corp.example>\nTo: me@a.example\n",
        "Delivery to these recipients has failed:\n\nbob@gone.example<mailto:bob@gone.example>\n"
        "Nobody has the address that you wrote.\n\nFor administrators:\n\n"
        "Generating server: EX1.corp.example\n\nbob@gone.example\n"
        "Remote Server returned '550 5.1.10 RESOLVER.ADR.NotFound; not found'\n\n"
        "Original message headers:\n\nFrom: me@a.example\nMessage-ID: <1@a.example>\n",
    )
    assert found.kind == "bounce"
    assert found.bounce == Bounce(
        "failed",
        "5.1.10",
        "bob@gone.example",
        "550 5.1.10 RESOLVER.ADR.NotFound; not found",
        "<1@a.example>",
        True,
    )


@pytest.mark.parametrize(
    ("actions", "kind", "about"),
    [
        (["delivered"], "receipt", None),
        (["relayed", "Expanded (to a list)"], "receipt", None),
        (["delivered", "delayed"], "bounce", ("delayed", "1@gone.example")),
        (["delivered", "delayed", "failed"], "bounce", ("failed", "2@gone.example")),
        (["delivered", "sorry"], "bounce", ("sorry", "1@gone.example")),
        # What is behind the recipients that are read may have failed.
        (["delivered"] * 101, "bounce", ("delivered", "0@gone.example")),
    ],
    ids=["delivered", "several", "delayed", "failed", "unknown", "more-than-is-read"],
)
def test_a_report_of_success_is_a_receipt(
    actions: list[str], kind: str, about: tuple[str, str] | None
) -> None:
    """RFC 3464 section 2.3.3."""
    recipients = "\n".join(
        f"Final-Recipient: rfc822; {number}@gone.example\nAction: {action}\n"
        for number, action in enumerate(actions)
    )
    found = facts(*report(recipients))
    assert found.kind == kind
    assert [one.field for one in found.evidence][:1] == ["content-type"]
    assert (found.bounce and (found.bounce.action, found.bounce.recipient)) == about


def test_no_more_blocks_of_a_report_are_read_than_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail has room for a thousand reports of ten thousand."""
    read = 0

    def counted(octets: bytes) -> HeaderBlock:
        nonlocal read
        read += 1
        return read_fields(octets)

    monkeypatch.setattr("shared.mail.bounces.read_fields", counted)
    assert facts(*report("Remote-MTA: x\n\n" * 4000)).bounce is not None
    assert 100 < read < 110
