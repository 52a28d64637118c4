"""What a recording may hold: protocol, numbers, words of refusals; nothing of anybody."""

from __future__ import annotations

import base64
import json

import pytest

from shared.mailbox.doctor import forms
from shared.mailbox.doctor.http_requests import HttpRequests
from shared.mailbox.doctor.imap_lines import ImapLines
from shared.mailbox.doctor.pop3_lines import Pop3Lines
from shared.mailbox.doctor.pseudonyms import Pseudonyms, challenge, header_of, mail_of
from shared.mailbox.observing import HttpRequest


def lines() -> ImapLines:
    return ImapLines(Pseudonyms(), "erika@kanzlei.example")


@pytest.mark.promise("M25")
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"TAG OK erika logged in from 10.1.2.3\r\n", b"TAG OK done\r\n"),
        (b"TAG OK [MAILBOXID (F-77aa)] x\r\n", b"TAG OK [MAILBOXID (id-1)] done\r\n"),
        (b"TAG OK [REFERRAL imap://erika@host/] x\r\n", b"TAG OK done\r\n"),
        (b"TAG NO [LIMIT] erika has too many\r\n", b"TAG NO [LIMIT] user-2 has too many\r\n"),
        (
            b"TAG NO erika@kanzlei.example at mail.kanzlei.example (10.1.2.3)\r\n",
            b"TAG NO user-1@example.org at host-1.example.org (192.0.2.1)\r\n",
        ),
        (b"* FLAGS (\\Seen $Junk Steuer2024)\r\n", b"* FLAGS (\\Seen $Junk keyword-1)\r\n"),
        (b'* LIST () "/" "Akte M/2024"\r\n', b'* LIST () "/" "folder 1/folder-2"\r\n'),
        (
            b'* LIST (\\Sent) "." INBOX.M&APw-ller\r\n',
            b'* LIST (\\Sent) "." "INBOX.folder-1&APw-"\r\n',
        ),
        (b"* XSOMETHING of erika\r\n", b"* X-UNKNOWN\r\n"),
        (b'* ID ("name" "Dovecot" "user" "erika")\r\n', b'* ID ("name" "Dovecot")\r\n'),
        (
            b"* 1 FETCH (UID 9 X-GM-MSGID 1278455344230334865 FLAGS (Akte))\r\n",
            b"* 1 FETCH (UID 9 X-GM-MSGID 1 FLAGS (keyword-1))\r\n",
        ),
        (
            b'* 1 FETCH (X-GM-THRID 1278455344230334865 X-GM-LABELS (\\Inbox "\\\\Sent" '
            b'"Akte (neu)" '
            b"Meier {6}\r\nMeyer) Huber) UID 9)\r\n",
            b'* 1 FETCH (X-GM-THRID 1 X-GM-LABELS (\\Inbox \\Sent "label-1" "label-2" "label-3" '
            b'"label-4") UID 9)\r\n',
        ),
    ],
)
def test_lines_of_imap_servers(line: bytes, told: bytes) -> None:
    assert lines().theirs(line, "SELECT") == told


def test_a_mail_keeps_its_length_and_nothing_else() -> None:
    mail = b"Subject: geheim\r\n\r\n" + b"Inhalt " * 50 + b"\r\n"
    head = b"* 1 FETCH (UID 5 BODY[] {%d}\r\n" % len(mail)
    told = lines().theirs(head + mail + b")\r\n", "UID")
    assert told.startswith(head)
    assert told.endswith(b"\r\n)\r\n")
    assert len(told) == len(head + mail) + 3
    assert b"geheim" not in told
    assert b"Inhalt" not in told


@pytest.mark.parametrize("octets", [*range(200), 4096, 70_001])
def test_replaced_mails_and_headers_have_the_length_asked_for(octets: int) -> None:
    assert len(mail_of(octets, 3)) == octets
    block = header_of(octets, 3)
    assert len(block) == octets
    if octets > 60:
        assert block.endswith(b"\r\n\r\n")
        assert b"\r\n\r\n" not in block[:-4]


def test_lines_of_pop3_servers() -> None:
    names = Pseudonyms()
    pop3 = Pop3Lines(names, "erika")
    assert pop3.greeting(b"+OK POP3 at mail.kanzlei.example <12.34@mail.kanzlei.example>\r\n") == (
        b"+OK POP3 at host-1.example.org <1.2@example.org>\r\n"
    )
    assert pop3.ours(b"USER erika\r\n") == b"USER user-1\r\n"
    assert pop3.ours(b"PASS geheim\r\n") == b"PASS password\r\n"
    listed = pop3.theirs(b"UIDL\r\n", [b"+OK\r\n", b"1 AbC123xyz\r\n", b".\r\n"])
    assert listed == [b"+OK\r\n", b"1 uidl-1\r\n", b".\r\n"]
    mail = [b"+OK 31 octets\r\n", b"Subject: geheim\r\n", b"\r\n", b"..dot\r\n", b".\r\n"]
    told = b"".join(pop3.theirs(b"RETR 1\r\n", mail))
    assert b"geheim" not in told
    assert len(told) == len(b"+OK\r\nSubject: geheim\r\n\r\n.dot\r\n.\r\n")
    assert pop3.theirs(b"RETR 1\r\n", [b"-ERR erika, not now\r\n"]) == [b"-ERR user-1, not now\r\n"]


def test_a_refused_token_is_explained_and_nothing_else() -> None:
    told = {
        "status": "401",
        "schemes": "Bearer",
        "scope": "https://mail.google.com/",
        "user": "erika",
    }
    coded = base64.b64encode(json.dumps(told).encode()).decode()
    kept = json.loads(base64.b64decode(challenge(Pseudonyms(), coded)))
    assert set(kept) == {"status", "schemes", "scope"}
    assert challenge(Pseudonyms(), base64.b64encode(b"r=nonce,s=salt").decode()) == ""


def test_answers_of_graph_and_of_token_endpoints() -> None:
    names = Pseudonyms()
    requests = HttpRequests(names, "erika@kanzlei.example")
    found = requests.taken(
        HttpRequest(
            "GET",
            "https://graph.microsoft.com/v1.0/users/erika@kanzlei.example/mailFolders/AAMkAD=/messages",
            b"",
            0.0,
            1.0,
            200,
            {"content-type": "application/json", "request-id": "1-2"},
            bytearray(
                json.dumps(
                    {
                        "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#users('erika')",
                        "value": [
                            {
                                "id": "AAMkAD-mail=",
                                "subject": "geheim",
                                "isRead": False,
                                "from": {
                                    "emailAddress": {"name": "Chef", "address": "c@k.example"}
                                },
                                "internetMessageHeaders": [{"name": "X-Akte", "value": "99"}],
                            }
                        ],
                    }
                ).encode()
            ),
        )
    )
    text = json.dumps(found)
    for secret in ("erika", "AAMkAD", "geheim", "Chef", "c@k.example", "1-2", "X-Akte"):
        assert secret not in text, secret
    assert json.loads(found["answer"])["value"][0]["isRead"] is False
    token = requests.taken(
        HttpRequest(
            "POST",
            "https://login.microsoftonline.com/8f3e-tenant.example/oauth2/v2.0/token",
            b"grant_type=refresh_token&refresh_token=0.AX&client_secret=s3cr3t&client_id=abc-def",
            0.0,
            1.0,
            400,
            {"content-type": "application/json"},
            bytearray(
                b'{"error":"invalid_grant","error_description":"AADSTS50173: erika@kanzlei.example '
                b'at 10.1.2.3. Trace ID: 3b1b1b1b-2222-3333-4444-555555555555",'
                b'"access_token":"eyJ0"}'
            ),
        )
    )
    text = json.dumps(token)
    for secret in (
        "0.AX",
        "s3cr3t",
        "abc-def",
        "erika",
        "10.1.2.3",
        "3b1b1b1b",
        "eyJ0",
        "tenant.ex",
    ):
        assert secret not in text, secret
    assert "AADSTS50173" in text
    assert "grant_type=refresh_token" in text


def test_equal_things_stay_equal_and_leaks_are_found() -> None:
    names = Pseudonyms()
    assert names.of("id", "AAMkAD") == names.of("id", "AAMkAD") != names.of("id", "AAMkAE")
    assert names.user("erika@kanzlei.example") == names.user("erika@kanzlei.example")
    assert names.leaks('{"a": "id-1"}', ["geheim"]) == []
    assert names.leaks("... AAMkAD ...", []) == ["AAMkAD"]
    assert names.leaks(base64.b64encode(b"geheim").decode(), ["geheim"]) == ["geheim"]
    assert names.leaks("at%20home", ["at home"]) == ["at home"]


@pytest.mark.promise("M25")
@pytest.mark.parametrize(
    ("request_", "form"),
    [
        (b'LOGIN "erika" {6+}\r\ngeheim\r\n', "LOGIN"),
        (b'STATUS "a b" (MESSAGES UIDNEXT)\r\n', "STATUS name (MESSAGES UIDNEXT)"),
        (b"STATUS {3}\r\na\xff) (MESSAGES)\r\n", "STATUS name (MESSAGES)"),
        (b"UID SEARCH RETURN (ALL) UID 5:* UNSEEN\r\n", "UID SEARCH RETURN (ALL) UID n:* UNSEEN"),
        (b"UID SEARCH UID 5,7:9\r\n", "UID SEARCH UID set"),
        (b"UID SEARCH 1:50\r\n", "UID SEARCH n:m"),
        (b"UID SEARCH SINCE 1-Feb-2020\r\n", "UID SEARCH SINCE date"),
        (b"UID FETCH 1,2:7 (UID BODY.PEEK[])\r\n", "UID FETCH set (UID BODY.PEEK[])"),
        (b'UID MOVE 1 "Trash"\r\n', "UID MOVE set name"),
        (b'LIST "" "*" RETURN (SPECIAL-USE)\r\n', 'LIST "" "*" RETURN (SPECIAL-USE)'),
        (b'LIST "" "Other Users/*"\r\n', 'LIST "" "prefix*"'),
    ],
)
def test_forms_of_imap_commands(request_: bytes, form: str) -> None:
    assert forms.of_imap(request_) == form
