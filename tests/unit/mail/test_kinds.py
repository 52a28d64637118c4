"""What kind of mail it is, and which field says so."""

from __future__ import annotations

import pytest

from shared.mail.addresses import Address
from shared.mail.bounces import Bounce
from shared.mail.facts import MailFacts, Recipient, read_facts
from shared.mail.region import region

pytestmark = pytest.mark.promise("F4")

ANN = "From: Ann <ann@example.org>\r\n"


def facts(header: str, body: str = "Hello\r\n", trusted: tuple[str, ...] = ()) -> MailFacts:
    whole = f"{header}\r\n{body}".replace("\r\n", "\n").replace("\n", "\r\n").encode()
    return read_facts(region(whole), trusted=trusted, text_limit=1000)


def report(kind: str, body: str) -> str:
    return (
        "MIME-Version: 1.0\r\n"
        f"Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n"
        f"--b\r\nContent-Type: message/{kind}\r\n\r\n{body}\r\n"
        "--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        "From: us@example.com\r\nMessage-ID: <1@example.com>\r\n\r\n--b--\r\n"
    )


@pytest.mark.parametrize(
    ("header", "kind", "fields"),
    [
        ("Subject: Order 4711\r\n", "person", []),
        ("Auto-Submitted: no\r\n", "person", []),
        ("Auto-Submitted: no (by hand)\r\nPrecedence: normal\r\n", "person", []),
        ("X-Autoreply: no\r\n", "person", []),
        ("Return-Path: <ann@example.org>\r\n", "person", []),
        ("Auto-Submitted: auto-replied\r\n", "auto-reply", ["auto-submitted"]),
        ("Auto-Submitted: auto-replied (vacation)\r\n", "auto-reply", ["auto-submitted"]),
        ("AUTO-SUBMITTED:\r\n Auto-Generated; type=x\r\n", "auto-reply", ["auto-submitted"]),
        ("X-Autoreply: yes\r\n", "auto-reply", ["x-autoreply"]),
        ("X-Autorespond: Out of office\r\n", "auto-reply", ["x-autorespond"]),
        ("Precedence: auto_reply\r\n", "auto-reply", ["precedence"]),
        ("Precedence: bulk\r\n", "list", ["precedence"]),
        ("Precedence: junk\r\n", "list", ["precedence"]),
        ("Precedence: bulk\r\nIn-Reply-To: <1@x>\r\n", "auto-reply", ["precedence"]),
        ("Precedence: bulk\r\nReferences: <1@x>\r\n", "auto-reply", ["precedence"]),
        ("Precedence: bulk\r\nReturn-Path: <>\r\n", "auto-reply", ["return-path", "precedence"]),
        ("Precedence: bulk\r\nAuto-Submitted: auto-generated\r\n", "auto-reply",
         ["auto-submitted", "precedence"]),
        ("X-Auto-Response-Suppress: All\r\n", "person", []),
        ("X-Auto-Response-Suppress: OOF, AutoReply\r\nAuto-Submitted: auto-generated\r\n",
         "auto-reply", ["auto-submitted"]),
        ('X-POST-MessageClass: 9; Autoresponder\r\n', "auto-reply", ["x-post-messageclass"]),
        ("X-OTRS-Loop: support@example.com\r\n", "auto-reply", ["x-otrs-loop"]),
        ("Return-Path: <>\r\n", "auto-reply", ["return-path"]),
        ("List-Id: Tea <tea.example.org>\r\n", "list", ["list-id"]),
        ("List-Unsubscribe: <mailto:u@example.org>\r\nPrecedence: bulk\r\n", "list",
         ["list-unsubscribe", "precedence"]),
        ("Auto-Submitted: auto-generated\r\nList-Id: <n.example>\r\n", "list",
         ["list-id", "auto-submitted"]),
        ("Auto-Submitted: auto-replied\r\nList-Id: <n.example>\r\n", "auto-reply",
         ["auto-submitted"]),
        ("X-Failed-Recipients: bob@example.net\r\n", "bounce", ["x-failed-recipients"]),
        ("X-MS-Exchange-Message-Is-Ndr:\r\n", "bounce", ["x-ms-exchange-message-is-ndr"]),
        ("X-MS-Exchange-Message-Is-Ndr: True\r\nAuto-Submitted: auto-generated\r\n", "bounce",
         ["x-ms-exchange-message-is-ndr"]),
        ("X-MS-Exchange-Message-Is-Ndr: false\r\n", "person", []),
        ("Content-Class: urn:content-classes:calendarmessage\r\n", "calendar", ["content-class"]),
        ("Content-Type: text/calendar; method=REQUEST\r\n", "calendar", ["content-type"]),
    ],
)  # fmt: skip
def test_the_kind_has_its_evidence(header: str, kind: str, fields: list[str]) -> None:
    found = facts(ANN + header)
    assert (found.kind, [one.field for one in found.evidence]) == (kind, fields)


@pytest.mark.parametrize(
    ("value", "suppressed"),
    [
        ("All", True),
        ("DR, OOF, AutoReply", True),
        ("dr,\r\n autoreply", True),
        ("OOF", True),
        ("None", False),
        ("", False),
        ("DR, RN, NRN", False),  # reports of delivery and reading alone
        ("overall", False),
    ],
)
def test_what_a_mail_asks_of_answers_says_nothing_of_who_sent_it(
    value: str, suppressed: bool
) -> None:
    """[MS-OXCMAIL] section 2.1.3.2.20."""
    found = facts(ANN + f"X-Auto-Response-Suppress: {value}\r\n")
    assert (found.kind, found.evidence) == ("person", ())
    assert found.auto_reply_suppressed is suppressed
    assert found.to_json()["auto_reply_suppressed"] is suppressed


def test_evidence_is_decoded_and_bounded() -> None:
    found = facts(ANN + "X-Autoreply: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= " + "x" * 5000 + "\r\n")
    assert found.evidence[0].value.startswith("Grüße xxx")
    assert len(found.evidence[0].value) <= 200


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (
            "delivery-status",
            "Reporting-MTA: dns; a\r\n\r\nFinal-Recipient: rfc822; b@c\r\n",
            "bounce",
        ),
        ("disposition-notification", "Final-Recipient: rfc822; b@c\r\n", "receipt"),
        ("feedback-report", "Feedback-Type: abuse\r\n", "complaint"),
        ("tlsrpt", "", "auto-reply"),
    ],
)
def test_reports_are_what_their_type_says(kind: str, body: str, expected: str) -> None:
    found = facts(ANN + report(kind, body), "")
    assert found.kind == expected
    # Without the parameter, what lies in it says so.
    assert facts(ANN + report(kind, body).replace(f" report-type={kind};", ""), "").kind == expected


def test_an_invitation_is_one_where_a_program_shall_act_on_it() -> None:
    inside = (
        "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nLunch\r\n"
        "--b\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n--b--\r\n"
    )
    assert facts(ANN + inside, "").kind == "calendar"
    attached = inside.replace("alternative", "mixed").replace(
        "; method=REQUEST", "; method=PUBLISH\r\nContent-Disposition: attachment"
    )
    assert facts(ANN + attached, "").kind == "person"


def test_a_bounce_tells_what_could_not_be_delivered() -> None:
    body = (
        "Reporting-MTA: dns; mx.example.net\r\n\r\n"
        "Final-Recipient: rfc822; late@example.net\r\nAction: delayed\r\nStatus: 4.4.1\r\n\r\n"
        "Original-Recipient: rfc822;bob@example.net\r\nFinal-Recipient: rfc822; b@in.example\r\n"
        "Action: Failed\r\nStatus: 5.1.1 (no such user)\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 <bob@example.net>:\r\n User unknown\r\n"
    )
    assert facts(ANN + report("delivery-status", body), "").bounce == Bounce(
        "failed",
        "5.1.1",
        "bob@example.net",
        "550 5.1.1 <bob@example.net>: User unknown",
        "<1@example.com>",
    )


def test_a_bounce_of_another_form_tells_whom() -> None:
    """qmail writes a text (QSBMF, cr.yp.to/proto/qsbmf.txt)."""
    found = facts(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@example.net\r\nSubject: failure notice\r\n",
        "Hi. This is the qmail-send program at example.net.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
        "<bob@example.net>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n"
        "--- Below this line is a copy of the message.\r\n\r\nSubject: hi\r\n",
    )
    assert found.kind == "bounce"
    assert found.bounce is not None
    assert (found.bounce.action, found.bounce.recipient) == ("failed", "bob@example.net")


@pytest.mark.parametrize(
    ("header", "kind", "fields"),
    [
        ("From: Mail Delivery System <Mailer-Daemon@mx.example.net>\r\n", "bounce", ["from"]),
        ("Return-Path: <>\r\nFrom: postmaster@example.net\r\n", "bounce", ["return-path"]),
        ("From: postmaster@example.net\r\n", "person", []),
        ('From: "mailer-daemon" <ann@example.org>\r\n', "person", []),
        # Somebody answers for the machine, with a path on which answers come.
        ("Return-Path: <mailer-daemon@example.net>\r\nFrom: mailer-daemon@example.net\r\n",
         "person", []),
    ],
)  # fmt: skip
def test_a_bounce_is_one_where_no_server_noted_the_return_path(
    header: str, kind: str, fields: list[str]
) -> None:
    """As at Exchange, which keeps it apart from the mail."""
    found = facts(header)
    assert (found.kind, [one.field for one in found.evidence]) == (kind, fields)


@pytest.mark.parametrize(
    ("header", "in_reply_to", "references", "thread"),
    [
        ("Message-ID: <own@x>\r\n", (), (), "<own@x>"),
        ("In-Reply-To: <a@x>\r\nMessage-ID: <own@x>\r\n", ("<a@x>",), (), "<a@x>"),
        ("References: <r@x>\r\n <s@x>\r\nIn-Reply-To: <s@x>\r\n", ("<s@x>",),
         ("<r@x>", "<s@x>"), "<r@x>"),
        ("In-Reply-To: Your message of Mon, 1 Jun <a@x>\r\n", ("<a@x>",), (), "<a@x>"),
        ("In-Reply-To: a@x\r\n", ("<a@x>",), (), "<a@x>"),
        ("References: <r@x>,<s@x>,<r@x>\r\n", (), ("<r@x>", "<s@x>"), "<r@x>"),
        ("References: <long-\r\n part@x>\r\n", (), ("<long-part@x>",), "<long-part@x>"),
        ("References: <\r\n", (), (), ""),
        ("References:\r\n", (), (), ""),
    ],
)  # fmt: skip
def test_thread_ids(
    header: str, in_reply_to: tuple[str, ...], references: tuple[str, ...], thread: str
) -> None:
    found = facts(ANN + header)
    assert (found.in_reply_to, found.references, found.thread) == (in_reply_to, references, thread)


def test_a_long_thread_keeps_its_root_and_its_end() -> None:
    found = facts(ANN + "References: " + "\r\n ".join(f"<{n}@x>" for n in range(500)) + "\r\n")
    assert found.references[0] == found.thread == "<0@x>"
    assert found.references[-1] == "<499@x>"
    assert len(found.references) == 100


def test_envelope_and_answers() -> None:
    found = facts(
        "Return-Path: <bounces+7@example.org>\r\nDelivered-To: support+4711@example.com\r\n"
        "X-Original-To: help@example.com\r\nDelivered-To: Desk <support+4711@example.com>\r\n"
        "Sender: Desk <desk@example.org>\r\nReply-To: Team <team@example.org>, x@example.org\r\n"
        'List-Id: A "tea" list <tea.example.org>\r\n' + ANN
    )
    assert found.return_path == Address("", "bounces+7@example.org")
    assert found.delivered_to == (
        Recipient("Desk", "support+4711@example.com", "4711"),
        Recipient("", "help@example.com"),
    )
    assert found.sender is not None
    assert found.sender.address == "desk@example.org"
    assert [one.address for one in found.reply_to] == ["team@example.org", "x@example.org"]
    assert found.list_id == "tea.example.org"
    assert facts("Return-Path: <>\r\n" + ANN).return_path == Address("", "")
    assert facts(ANN).return_path is None


GMAIL = (
    "Authentication-Results: mx.google.com;\r\n"
    "       dkim=pass header.i=@example.org header.s=s1 header.b=abc;\r\n"
    "       spf=pass (google.com: domain of ann@example.org designates 1.2.3.4) "
    "smtp.mailfrom=ann@example.org;\r\n"
    "       dmarc=fail (p=REJECT sp=REJECT dis=NONE) header.from=example.org\r\n"
)


def test_results_of_the_trusted_server_alone() -> None:
    forged = GMAIL.replace("dmarc=fail", "dmarc=pass")
    found = facts(GMAIL + forged + ANN, trusted=("mx.google.com",))
    assert [(one.method, one.result, one.domain) for one in found.authentication] == [
        ("dkim", "pass", "example.org"),
        ("spf", "pass", "ann@example.org"),
        ("dmarc", "fail", "example.org"),
    ]
    assert facts(GMAIL + ANN).authentication == ()
    assert facts(GMAIL + ANN, trusted=("mx.example.net",)).authentication == ()
    assert facts(GMAIL.replace("mx.google.com", "mx.google.com 1") + ANN,
                 trusted=("mx.google.com",)).authentication  # fmt: skip


@pytest.mark.parametrize(
    "sender_chose",
    [
        "spf=fail (a ((((b)))) ; dmarc=pass header.from=corp.example) smtp.mailfrom=a@evil.example",
        'spf=fail (a "b) smtp.mailfrom=a@evil.example; x=fail (c" ; dmarc=pass header.from=x)',
        'spf=fail smtp.mailfrom="("@evil.example; dkim=fail header.i=")\\"; dmarc=pass; x=\\" "@x',
        'spf=fail reason="; dmarc=pass header.from=corp.example" smtp.mailfrom=a@evil.example',
        "spf=fail smtp.mailfrom=a@evil.example (never closed; dmarc=pass header.from=corp.example",
        'spf=fail smtp.mailfrom="never closed; dmarc=pass header.from=corp.example',
        "spf=fail (\\); dmarc=pass header.from=corp.example) smtp.mailfrom=a@evil.example",
    ],
    ids=["nested", "quote-in-comment", "comment-in-quotes", "reason", "open", "quote", "escaped"],
)
def test_what_a_sender_chose_is_no_result(sender_chose: str) -> None:
    field = f"Authentication-Results: mx.google.com; {sender_chose}\r\n"
    found = facts(field + ANN, trusted=("mx.google.com",)).authentication
    assert found[0][:2] == ("spf", "fail")
    assert not [one for one in found if one.result == "pass"]


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ('reason="header.d=corp.example" smtp.mailfrom=evil.example', "evil.example"),
        ('smtp.mailfrom="a b;c"@evil.example', "a b;c@evil.example"),
        ('header.from="corp.example" smtp.mailfrom=x', "corp.example"),
        ("(a (b (c (d (e))))) smtp . mailfrom = evil.example", "evil.example"),
        ('(a "b) smtp.mailfrom=evil.example (c" d)', "evil.example"),
    ],
)
def test_whom_a_result_is_about(said: str, about: str) -> None:
    field = f"Authentication-Results: mx.google.com; spf=pass {said}; dmarc=fail\r\n"
    found = facts(field + ANN, trusted=("mx.google.com",)).authentication
    assert [tuple(one) for one in found] == [("spf", "pass", about), ("dmarc", "fail", "")]


@pytest.mark.parametrize(
    ("server", "trusted"),
    [
        ("(c (d)) MX.google.com (v) 1 (x)", True),
        ('"mx.google.com"', True),
        ("mx.google.com (forged) evil", False),
        ("mx.google.com/1", False),
        ("mx.google.com.evil.example", False),
        ("mx.google.com evil.example", False),
        ("evil.example mx.google.com", False),
        ("mx.google.com=x", False),
    ],
)
def test_the_server_is_named_by_an_identifier_and_its_version(server: str, trusted: bool) -> None:
    field = f"Authentication-Results: {server}; dmarc=pass\r\n"
    found = facts(field + ANN, trusted=("mx.google.com",)).authentication
    assert [one.result for one in found] == (["pass"] if trusted else [])


def test_exchange_online_names_no_server() -> None:
    found = facts(
        "Authentication-Results: spf=pass (sender IP is 1.2.3.4)\r\n"
        " smtp.mailfrom=example.org; dkim=none (message not signed)\r\n"
        " header.d=none;dmarc=bestguesspass action=none header.from=example.org;compauth=pass\r\n"
        " reason=109\r\nX-Forefront-Antispam-Report: CIP:1.2.3.4;CTRY:;SCL:5;SRV:;\r\n" + ANN,
        trusted=("",),
    )
    assert [(one.method, one.result) for one in found.authentication] == [
        ("spf", "pass"), ("dkim", "none"), ("dmarc", "bestguesspass"), ("compauth", "pass"),
    ]  # fmt: skip
    assert found.spam is not None
    assert (found.spam.verdict, found.spam.score) == ("spam", 5.0)


@pytest.mark.parametrize(
    ("header", "verdict", "score"),
    [
        ("X-Spam-Status: Yes, score=7.1 required=5.0 tests=A,\r\n B\r\n", "spam", 7.1),
        ("X-Spam-Status: No, score=-1.9 required=5.0\r\n", "ham", -1.9),
        ("X-Spam-Flag: YES\r\n", "spam", None),
        ("X-Spamd-Result: default: False [1.20 / 15.00]\r\n", "ham", 1.2),
        ("X-Spam-Status: maybe\r\n", None, None),
    ],
)
def test_spam_verdicts(header: str, verdict: str | None, score: float | None) -> None:
    results = "Authentication-Results: MX; spf=pass\r\n"
    spam = facts(header + results + ANN, trusted=("mx",)).spam
    assert (spam and spam.verdict, spam and spam.score) == (verdict, score)
    assert facts(header + results + ANN).spam is None


@pytest.mark.parametrize("trusted", [("mx.example.org",), ("",)], ids=["named", "exchange"])
def test_a_verdict_that_the_sender_may_have_written_is_none(trusted: tuple[str, ...]) -> None:
    forged = "X-Spam-Status: No, score=-9\r\nX-Spam-Flag: NO\r\n"
    results = f"Authentication-Results: {trusted[0]}; dmarc=fail\r\n".replace(": ; ", ": ")
    found = facts(results + forged + ANN, trusted=trusted)
    assert [one.result for one in found.authentication] == ["fail"]
    assert found.spam is None
    assert facts(forged + ANN, trusted=trusted).spam is None
