"""What a recording may hold: protocol, numbers, words of refusals; nothing of anybody."""

from __future__ import annotations

import base64
import json

import pytest

from shared.mailbox.doctor import request_forms
from shared.mailbox.doctor.anonymise_http import HttpRequests
from shared.mailbox.doctor.anonymise_imap import ImapLines
from shared.mailbox.doctor.anonymise_pop3 import Pop3Lines
from shared.mailbox.doctor.pseudonyms import Pseudonyms, challenge
from shared.mailbox.doctor.stand_in_mails import header_of, mail_of
from shared.mailbox.traffic_observer import HttpRequest


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
    assert octets < 2 or mail_of(octets, 3).endswith(b"\r\n"), "a dot behind it ends it"
    assert octets < 2 or block.endswith(b"\r\n")
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
    assert request_forms.of_imap(request_) == form


#: Nothing of these may be in what is given away, wherever a server or a mailbox puts it.
SOMEBODYS = (
    *("erika", "mustermann", "kanzlei", "müller", "schmid", "akte", "4711471147", "0171"),
    *("fe80::1", "2001:db8", "10.1.2.3", "srv4711", "aaaabbbb", "AAMkADk", "Qx9", "geheim"),
)


def telling(text: str) -> list[str]:
    return [word for word in SOMEBODYS if word.casefold() in text.casefold()]


HOSTILE_IMAP = [
    b"* OK [CAPABILITY IMAP4rev1 IMAPSIEVE=sieve://sieve.kanzlei.example X-ERIKA@KANZLEI] hi\r\n",
    b"* CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256 URL=mail.kanzlei.example\r\n",
    "TAG NO Postfach von Erika Mustermann (müller@kanzlei.example) ist gesperrt\r\n".encode(),
    "TAG NO post.müller.example says no to mustermann from fe80::1\r\n".encode(),
    b"TAG BAD KANZLEI\\erika is unknown at srv4711.kanzlei.example\r\n",
    b"* BYE kanzlei is down for erika\r\n",
    b"* FLAGS (\\Seen $Junk $ErikaMustermann \\Akte)\r\n",
    b"* 1 FETCH (UID 5 EMAILID (Qx9erika) THREADID (Qx9akte) MODSEQ (12))\r\n",
    b'* 1 FETCH (UID 5 ENVELOPE ("Mon" "geheim" (("Erika" NIL "erika" "kanzlei.example"))))\r\n',
    b'* 1 FETCH (UID 5 BODY[HEADER.FIELDS (SUBJECT)] "Subject: geheim")\r\n',
    b'* NAMESPACE (("erika." "." "X-OWNER" ("Erika Mustermann"))) NIL (("Akte/" "/"))\r\n',
    b'* NAMESPACE (({6}\r\nerika. ".")) NIL NIL\r\n',
    b'* STATUS "Akte Mustermann" (MESSAGES 3 MAILBOXID (Qx9akte))\r\n',
    b'* LIST (\\HasNoChildren) "^" "Akte^Mustermann"\r\n',
    b"+ \xfcber erika\r\n",
]


@pytest.mark.promise("M25")
@pytest.mark.parametrize("line", HOSTILE_IMAP)
def test_nothing_of_anybody_is_in_a_line_of_imap(line: bytes) -> None:
    told = ImapLines(Pseudonyms(), "erika.mustermann@kanzlei.example")
    assert telling(told.theirs(line, "AUTHENTICATE").decode("utf-8")) == []
    assert telling(told.greeting(line).decode("utf-8")) == []


@pytest.mark.promise("M25")
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"STAT\r\n", [b"erika@kanzlei.example\r\n"]),
        (
            b"PASS x\r\n",
            ["-ERR Postfach von Erika Mustermann: müller@kanzlei.example\r\n".encode()],
        ),
        (b"CAPA\r\n", [b"+OK\r\n", b"IMPLEMENTATION kanzlei-server\r\n", b".\r\n"]),
        (b"UIDL\r\n", [b"+OK\r\n", b"1 <geheim@kanzlei.example>\r\n", b".\r\n"]),
        (b"AUTH PLAIN\r\n", [b"+ \xfc erika\r\n", b"-ERR erika\r\n"]),
    ],
)
def test_nothing_of_anybody_is_in_a_line_of_pop3(request_: bytes, answer: list[bytes]) -> None:
    told = Pop3Lines(Pseudonyms(), "erika.mustermann@kanzlei.example").theirs(request_, answer)
    assert telling(b"".join(told).decode("utf-8")) == []


HOSTILE_GRAPH = {
    "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#users('erika')/messages",
    "@odata.nextLink": "https://graph.microsoft.com/v1.0/Users('erika%40kanzlei.example')/"
    "mailfolders('AAMkADk=')/messages/delta?$skiptoken=Qx9",
    "@odata.deltaLink": "https://graph.microsoft.com/v1.0/me/mailFolders('AAMkADk=')/x-akte/delta()"
    "?$deltatoken=Qx9",
    "erika@kanzlei.example": 1,
    "erika.mustermann": 2,
    "value": [
        {
            "id": "AAMkADk=",
            "subject": "4711471147",
            "bodyPreview": "0171",
            "internetMessageId": "<geheim@kanzlei.example>",
            "webLink": "https://outlook.office365.com/owa/?ItemID=AAMkADk",
            "sender": {
                "emailAddress": {"name": "Erika Mustermann", "address": "e@kanzlei.example"}
            },
            "categories": ["Akte"],
            "name": "geheim.pdf",
            "contentType": "text/plain; name=geheim",
        }
    ],
    "error": {"code": "ErrorInvalidUser", "message": "Erika Mustermann (erika) is invalid."},
}


@pytest.mark.promise("M25")
def test_nothing_of_anybody_is_in_an_answer_by_http() -> None:
    requests = HttpRequests(Pseudonyms(), "erika.mustermann@kanzlei.example")

    def asked(url: str, answer: object, kind: str = "application/json") -> str:
        body = json.dumps(answer).encode()
        told = requests.taken(
            HttpRequest("GET", url, b"", 0.0, 1.0, 200, {"content-type": kind}, bytearray(body))
        )
        return json.dumps(told, ensure_ascii=False)

    tenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
    told = [
        asked(f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token", {"tenant": tenant}),
        asked(
            f"https://login.microsoftonline.com/{tenant}/v2.0/.well-known/openid-configuration", {}
        ),
        asked("https://graph.microsoft.com/v1.0/me/messages", HOSTILE_GRAPH),
        asked(
            "https://graph.microsoft.com/v1.0/users/erika.mustermann@kanzlei.example/messages/"
            "AAMkADk=/$value",
            "geheim",
            'text/plain; name="geheim.eml"',
        ),
    ]
    assert [telling(one) for one in told] == [[]] * len(told)
    assert "/oauth2/v2.0/token" in told[0]
    assert "/.well-known/openid-configuration" in told[1]
    assert "/messages/delta?$skiptoken=" in told[2]


@pytest.mark.promise("M25")
def test_a_server_that_names_its_organisation_is_not_told_by_it() -> None:
    """Whoever logs in as `erika` has no organisation in the name; the host has."""
    names = Pseudonyms()
    names.server("srv4711.mail.kanzlei-m\N{LATIN SMALL LETTER U WITH DIAERESIS}ller.example")
    told = ImapLines(names, "erika")
    for line in (
        "* OK Kanzlei-Mu\N{COMBINING DIAERESIS}ller IMAP ready\r\n",  # decomposed
        "* BYE kanzlei-m\N{LATIN SMALL LETTER U WITH DIAERESIS}ller: see srv4711\r\n",
    ):
        assert telling(told.greeting(line.encode()).decode()) == []
    gmail = Pseudonyms()
    gmail.server("imap.gmail.com")
    assert gmail.words("Please visit your Gmail settings") == "Please visit your Gmail settings"


@pytest.mark.promise("M25")
@pytest.mark.parametrize(
    ("username", "words", "told"),
    [
        ("li@wang.example", "li of Wang is in use", "user-2 of example is in use"),
        ("a.b@kanzlei-meier.example", "Kanzlei Meier is busy", "example example is busy"),
        ("info@k.example", "call +49 171/471147 or 0171 4711471", "call phone-1 or phone-2"),
        ("info@k.example", "cannot open /home/erika/Maildir", "cannot open path-1"),
        ("info@k.example", "C:\\Users\\Erika\\mail is locked", "path-1 is locked"),
        ("info@k.example", "[2026-11-01 10:00:00] 0.001 s", "[2026-11-01 10:00:00] 0.001 s"),
    ],
)
def test_words_of_refusals_are_of_nobody(username: str, words: str, told: str) -> None:
    names = Pseudonyms()
    names.user(username)
    assert names.words(words) == told


@pytest.mark.promise("M25")
def test_names_of_mechanisms_are_nobodys() -> None:
    names = Pseudonyms()
    words = "AUTHENTICATE SCRAM-SHA-256 authentication failed"
    assert names.words(words) == words
    names.of("id", "ECDSA-NIST256P-CHALLENGE")
    offered = ["CAPABILITY IMAP4rev1 AUTH=ECDSA-NIST256P-CHALLENGE"]
    assert names.leaks(offered[0], [], offered) == []
    assert names.leaks(offered[0], []) == ["ECDSA-NIST256P-CHALLENGE"]
