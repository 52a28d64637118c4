"""What a handler reads of a mail in its event, its rules can ask: same names, same values."""

from __future__ import annotations

import json
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from cli.demo.certificate import DemoCertificate
from cli.demo.samples import encrypted
from posthouse import MailEvent
from posthouse.mail import Address, Recipient
from shared.rules.expression import VARIABLES
from tests.integration.api.conftest import Api
from tests.integration.graph.application import application_credential
from tests.integration.test_past_mails import deliver, published, to_get, tried
from tests.integration.test_rules import letter, letters
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer

pytestmark = pytest.mark.promise("F4", "R1")


def events_of(url: str, handler: str) -> list[MailEvent]:
    return [MailEvent.from_json(json.dumps(wire)) for wire in open_queue(url, handler).events()]


def read_in(event: MailEvent) -> dict[str, Any]:
    """The variables of an expression, as the event tells them; lists have each value once."""
    mail = event.mail
    addresses: list[Address | Recipient] = [*mail.to, *mail.cc, *mail.delivered_to]
    recipients = [one.address.lower() for one in addresses]
    found: dict[str, Any] = {
        "recipients": recipients,
        "tags": [one.partition("@")[0].partition("+")[2] for one in recipients if "+" in one],
        "sender": mail.senders[0].address.lower(),
        "subject": event.headers.subject,
        "headers": {"message-id": [event.headers.message_id]},
        "kind": mail.kind,
        "size": event.size,
        "parts": [one.content_type for one in mail.parts],
        "folder": mail.folder,
        "connection": event.connection.name,
        "authentication": [f"{one.method}={one.result}" for one in mail.authentication],
        "signature": event.security.signature,
        "encrypted": event.security.encrypted,
    }
    assert found.keys() == VARIABLES.keys()
    assert {one.tag.lower() for one in mail.delivered_to if one.tag} <= set(found["tags"])
    if event.security.encrypted and event.security.status != "decrypted":
        del found["parts"]  # nobody knows what stays encrypted
    return {
        name: list(dict.fromkeys(value)) if isinstance(value, list) else value
        for name, value in found.items()
    }


def asking(variables: dict[str, Any]) -> str:
    """An expression that is true of mails of which all of this is so."""
    return " && ".join(
        f"headers[{json.dumps(key)}] == {json.dumps(value[key])}"
        if name == "headers"
        else f"{name} == {json.dumps(value)}"
        for name, value in variables.items()
        for key in (value if name == "headers" else [name])
    )


def test_an_expression_made_of_an_event_takes_that_mail_and_no_other(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    """By what the ledger keeps (the dry run), and by what the decryptor reads (the delivery)."""
    certificate = DemoCertificate.of(tmp_path / "keys")
    opened = letter("opened", Cc="Copy <Copy+Cc@Example.net>")
    opened.add_attachment(b"GIF89a", maintype="image", subtype="gif", filename="a.gif")
    plain = message_from_bytes(bytes(opened), policy=policy.SMTP)
    assert isinstance(plain, EmailMessage)
    checked = letter(
        "checked",
        Authentication_Results="mx.example.com; spf=pass smtp.mailfrom=example.org; dmarc=fail",
        Delivered_To="Support+Desk@example.net",
        List_Id="<news.example.org>",
    )
    mails = [*letters(), encrypted(plain, certificate), bytes(checked)]
    dovecot.deliver(mail_user, mails)
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(
        dovecot, mail_user, name="The Mailbox", trusted_servers="mx.example.com"
    )
    stack.add_certificate(certificate, connection)
    stack.start("scheduler", "fetcher", "decryptor")
    published(stack, len(mails))
    events = events_of(redis_url, "archive")
    assert len(events) == len(mails)
    with Api(stack.database_url, stack.store, secret_keys=tuple(stack.secret_keys)) as api:
        numbers: dict[str, int] = {}
        for event in events:
            variables = read_in(event)
            name = f"asks-{event.headers.subject}"
            numbers[name] = stack.add_handler(name, rules={"expression": asking(variables)})
            del variables["headers"]  # the ledger does not keep them
            found = tried(api, numbers[name], rules={"expression": asking(variables)})
            assert (to_get(found), found["unsure"]) == ({event.headers.subject}, 0), variables
        for number in numbers.values():
            assert deliver(api, number) >= 1
        published(stack, len(mails))
    stack.stop()
    for name in numbers:
        got = [event.headers.subject for event in events_of(redis_url, name)]
        assert got == [name.removeprefix("asks-")]
    assert stack.count("delivery") == 2 * len(mails)
    assert stack.query("SELECT FROM delivery WHERE note <> ''") == []  # none of it in doubt


@pytest.mark.promise("M5")
def test_a_folder_has_one_name_wherever_a_mail_tells_it(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    graph_server: GraphServer,
    oidc: OidcServer,
    build_stack: Callable[..., Stack],
) -> None:
    """The inbox is INBOX: of IMAP however the connection calls it, of POP3, and of Graph."""
    graph_server.trust(oidc.public_key)
    office = graph_server.mailbox("folders@example.org")
    office.create("Support")
    with dovecot.client(mail_user) as client:
        client.create_folder("Support/Billing")
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    graph: dict[str, Any] = {
        "password": "",
        "mode": "microsoft-graph",
        "username": "folders@example.org",
        "credential_id": application_credential(stack, graph_server, oidc),
    }
    for name, folder, shown in (
        ("imap", "", "INBOX"),
        ("lower", "inbox", "INBOX"),
        ("below", "Support/Billing", "Support/Billing"),
    ):
        user = mail_user if shown != "INBOX" else f"{mail_user}-{name}"
        dovecot.deliver(user, [bytes(letter(name))], folder or "INBOX")
        stack.watch(dovecot, user, name=name, folder=folder)
    dovecot.deliver(f"{mail_user}-pop3", [bytes(letter("pop3"))])
    stack.watch(dovecot, f"{mail_user}-pop3", name="pop3", mode="pop3")
    office.deliver([bytes(letter("graph"))])
    office.deliver([bytes(letter("graph-below"))], folder="Support")
    stack.add_connection(name="graph", **graph)
    stack.add_connection(name="graph-below", folder="Support", **graph)
    published(stack, 6)
    names = {
        "imap": "INBOX",
        "lower": "INBOX",
        "below": "Support/Billing",
        "pop3": "INBOX",
        "graph": "INBOX",
        "graph-below": "Support",
    }
    events = events_of(redis_url, "archive")
    assert {event.headers.subject: event.mail.folder for event in events} == names
    rules = {folder: stack.add_handler(f"of-{n}") for n, folder in enumerate(set(names.values()))}
    with Api(stack.database_url, stack.store, secret_keys=tuple(stack.secret_keys)) as api:
        for folder, handler in rules.items():
            wanted = {name for name, shown in names.items() if shown == folder}
            for asked in (
                {"accept": [{"folder": folder}]},
                {"expression": f"folder == {json.dumps(folder)}"},
            ):
                assert to_get(tried(api, handler, rules=asked)) == wanted
            stack.change_handler(f"of-{list(rules).index(folder)}", rules=asked)
            assert deliver(api, handler) == len(wanted)
        published(stack, 6)
        for mail in api.http.get("messages").json()["items"]:
            assert mail["folder"] == names[mail["subject"]]
            path = api.http.get(f"messages/{mail['id']}").json()["path"]
            downloaded = [one for one in path if one["what"] == "downloaded"]
            assert [one["detail"]["folder"] for one in downloaded] == [mail["folder"]]
    stack.stop()
    for number, folder in enumerate(rules):
        got = {event.mail.folder for event in events_of(redis_url, f"of-{number}")}
        assert got == {folder}
