"""Webhooks hear of every transition once, whatever the receivers and the schedulers do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from services.scheduler.alerting import deliver_due, raise_backlogs, raise_expiries
from shared.alerts.base import AlertData
from shared.alerts.connections import ConnectionFailing, ConnectionRecovered
from shared.alerts.handlers import ForwardPaused
from shared.alerts.raised import Template
from shared.alerts.services import WebhookTest
from shared.allowed_hosts import HostRules
from shared.clock import utc_now
from shared.errors import Conflict
from shared.storage import alert_deliveries, alerts, webhooks
from shared.storage.pool import Database
from shared.vault import SecretPath, Vault, new_key
from tests.integration.rows import Session, add_connection, add_handler
from tests.servers.processes import free_port
from tests.servers.webhooks import Receiver

SECRET = "whsec_" + base64.b64encode(b"a key of the receiver's own").decode()
pytestmark = pytest.mark.promise("H5")


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def vault() -> Vault:
    return Vault.from_settings([new_key()])


def add_webhook(
    database: Database,
    vault: Vault,
    url: str,
    template: Template = Template.JSON,
    name: str = "on call",
    secret: str = SECRET,
    kinds: tuple[str, ...] = (),
    muted_for: timedelta | None = None,
) -> webhooks.Webhook:
    def seal(column: str, row: int, text: str) -> bytes:
        return vault.seal(text.encode(), SecretPath(webhooks.WEBHOOK_TABLE, column, str(row)))

    with database.transaction() as session:
        return webhooks.create_webhook(
            session,
            name=name,
            url=url,
            secret=secret,
            template=template,
            seal=seal,
            kinds=kinds,
            muted_until=utc_now() + muted_for if muted_for else None,
        )


FAILING = ConnectionFailing(
    connection_id=7, name="Invoices", message="The password is wrong.", hint="Change it."
)
RECOVERED = ConnectionRecovered(connection_id=7, name="Invoices")


def tell(database: Database, data: AlertData) -> bool:
    with database.transaction() as session:
        return alerts.raise_transition(session, data)


def make_due(session: Session) -> None:
    session.execute("UPDATE alert SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


def test_a_transition_is_told_once_and_signed(
    database: Database, vault: Vault, receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url)
    tell(database, FAILING)
    threads = [
        threading.Thread(target=deliver_due, args=(database, vault, utc_now())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deliver_due(database, vault, utc_now())
    (request,) = receiver.received
    assert request.path == "/hook/secret-path"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.json["type"] == "posthouse.alert.connection-failing.v1"
    assert request.json["source"] == "/connection/7"
    assert "The password is wrong." in request.json["data"]["summary"]
    # Checked as the specification tells receivers to (Standard Webhooks 1.0).
    signed = f"{request.json['id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    key = b"a key of the receiver's own"
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert request.headers["webhook-id"] == request.json["id"]


def test_a_test_goes_to_the_one_webhook_that_it_is_for(
    database: Database, vault: Vault, receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url)
    chosen = add_webhook(database, vault, receiver.url, name="Backup")
    tell(database, WebhookTest(webhook_id=chosen.id, name=chosen.name))
    assert deliver_due(database, vault, utc_now()) == 1
    (request,) = receiver.received
    assert request.json["type"] == "posthouse.alert.webhook-test.v1"
    assert "Backup" in request.json["data"]["summary"]


def kinds_told(receiver: Receiver) -> list[str]:
    return [request.json["type"].split(".")[2] for request in receiver.received]


def test_a_webhook_is_told_of_its_kinds_and_of_their_end(
    database: Database, vault: Vault, receiver: Receiver, second_receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url, name="mailboxes", kinds=("connection-failing",))
    add_webhook(database, vault, second_receiver.url, name="expiry", kinds=("mail-quarantined",))
    for data in (FAILING, RECOVERED, ForwardPaused(name="h", handler_id=1, place="", reason="")):
        tell(database, data)
    deliver_due(database, vault, utc_now())
    assert kinds_told(receiver) == ["connection-failing", "connection-recovered"]
    assert kinds_told(second_receiver) == []


def test_a_muted_webhook_is_told_nothing_for_its_time_but_a_test(
    database: Database, session: Session, vault: Vault, receiver: Receiver
) -> None:
    hook = add_webhook(database, vault, receiver.url, muted_for=timedelta(hours=1))
    assert hook.muted_until is not None
    tell(database, FAILING)
    tell(database, WebhookTest(webhook_id=hook.id, name=hook.name))
    deliver_due(database, vault, utc_now())
    assert kinds_told(receiver) == ["webhook-test"]
    session.execute("UPDATE webhook SET muted_until = now() - interval '1 second'")
    tell(database, RECOVERED)
    deliver_due(database, vault, utc_now())
    assert kinds_told(receiver) == ["webhook-test", "connection-recovered"]
    with database.transaction() as reading:
        assert webhooks.webhook(reading, hook.id).muted_until is None, "its time is over"


def test_a_change_that_is_rolled_back_is_not_told(
    database: Database, vault: Vault, receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url)
    with pytest.raises(RuntimeError), database.transaction() as session:
        alerts.raise_transition(session, RECOVERED)
        raise RuntimeError
    deliver_due(database, vault, utc_now())
    assert receiver.received == []


def test_a_failing_receiver_is_tried_again_and_the_log_tells_every_call(
    database: Database,
    session: Session,
    vault: Vault,
    receiver: Receiver,
    second_receiver: Receiver,
) -> None:
    add_webhook(database, vault, receiver.url, name="flaky")
    add_webhook(database, vault, second_receiver.url, name="healthy")
    receiver.answers.extend([(500, {}), (429, {"Retry-After": "900"})])
    tell(database, FAILING)
    deliver_due(database, vault, utc_now())
    deliver_due(database, vault, utc_now())  # not due yet
    assert (len(receiver.received), len(second_receiver.received)) == (1, 1)
    make_due(session)
    deliver_due(database, vault, utc_now())
    waits = "SELECT next_attempt_at - now() > interval '14 minutes' FROM alert"
    assert session.execute(waits).fetchone() == (True,)  # as Retry-After asked
    make_due(session)
    deliver_due(database, vault, utc_now())
    make_due(session)
    deliver_due(database, vault, utc_now())
    assert (len(receiver.received), len(second_receiver.received)) == (3, 1)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    with database.transaction() as reading:
        ((alert, pending),) = alert_deliveries.alerts(reading)
        log = alert_deliveries.deliveries(reading, [alert.id])
    assert not pending
    assert [line.status for line in log if line.webhook == "flaky"] == [500, 429, 204]
    assert [line.status for line in log if line.webhook == "healthy"] == [204]


def test_a_receiver_that_is_down_is_given_up_some_day(
    database: Database, session: Session, vault: Vault
) -> None:
    add_webhook(database, vault, f"http://127.0.0.1:{free_port()}/hook/secret-path")
    tell(database, RECOVERED)
    calls = 0
    for _ in range(30):
        calls += deliver_due(database, vault, utc_now())
        make_due(session)
    assert calls == 11
    errors = session.execute("SELECT DISTINCT error FROM alert_delivery").fetchall()
    assert len(errors) == 1
    assert "secret-path" not in str(errors[0][0])


def test_a_redirect_is_not_followed(
    database: Database, vault: Vault, receiver: Receiver, second_receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url)
    receiver.answers.append((307, {"Location": second_receiver.url}))
    tell(database, RECOVERED)
    deliver_due(database, vault, utc_now())
    assert len(receiver.received) == 1
    assert second_receiver.received == []


def test_an_address_that_is_not_permitted_is_never_called(
    database: Database, session: Session, vault: Vault, receiver: Receiver
) -> None:
    hosts = HostRules.parse(["hooks.example.com", "10.0.0.0/8"], [])
    add_webhook(database, vault, receiver.url)
    tell(database, RECOVERED)
    deliver_due(database, vault, utc_now(), hosts=hosts)
    assert receiver.received == []
    row = session.execute("SELECT error FROM alert_delivery").fetchone()
    assert row is not None
    assert "not allowed here" in str(row[0])
    assert "POSTHOUSE_ALLOWED_HOSTS" in str(row[0])


def test_a_name_is_called_at_an_allowed_address_under_its_own_name(
    database: Database, vault: Vault, receiver: Receiver
) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    add_webhook(database, vault, url)
    tell(database, RECOVERED)
    hosts = HostRules.parse(["127.0.0.0/8"], [])
    deliver_due(database, vault, utc_now(), hosts=hosts)
    assert receiver.received[0].headers["host"] == f"localhost:{receiver.port}"


def test_slack_teams_and_opsgenie_get_what_they_read(
    database: Database, vault: Vault, receiver: Receiver
) -> None:
    for template in (Template.SLACK, Template.TEAMS, Template.OPSGENIE):
        add_webhook(database, vault, receiver.url, template, name=template, secret="genie-key")
    tell(database, replace(FAILING, message="<b> & | [x](http://evil)"))
    deliver_due(database, vault, utc_now(), public_url="https://posthouse.example/")
    link = "https://posthouse.example/connections/7"
    slack = next(r for r in receiver.received if "blocks" in r.json)
    (linked,) = slack.json["blocks"][0]["elements"][0]["elements"]
    assert (linked["type"], linked["url"]) == ("link", link)
    assert "&lt;b&gt; &amp;" in slack.json["text"]
    teams = next(r for r in receiver.received if "attachments" in r.json)
    (attachment,) = teams.json["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["actions"][0]["url"] == link
    opsgenie = next(r for r in receiver.received if "alias" in r.json)
    assert opsgenie.headers["authorization"] == "GenieKey genie-key"
    assert opsgenie.json["priority"] == "P2"

    receiver.received.clear()
    tell(database, RECOVERED)
    deliver_due(database, vault, utc_now())
    (closing,) = [r for r in receiver.received if "close" in r.path]
    assert opsgenie.json["alias"].replace(":", "%3A").replace("/", "%2F") in closing.path
    assert closing.path.endswith("/close?identifierType=alias")


def test_the_end_of_a_certificate_in_use_is_told_at_30_7_and_1_days(
    database: Database, session: Session, vault: Vault, receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url)
    now = utc_now()
    connection = add_connection(session)
    insert = (
        "INSERT INTO certificate (name, subject, issuer, serial, fingerprint, not_after, "
        "certificate, private_key) VALUES (%s, '', '', '', '', %s, '', '') RETURNING id"
    )
    row = session.execute(insert, ("in use", now + timedelta(days=40))).fetchone()
    assert row is not None
    session.execute(insert, ("not in use", now + timedelta(days=40)))
    session.execute("INSERT INTO connection_certificate VALUES (%s, %s)", (connection, row[0]))
    session.execute(
        "INSERT INTO credential (name, provider, grant_type, secret_expires_at) "
        "VALUES ('app', 'microsoft', 'client-credentials', %s)",
        (now + timedelta(days=40),),
    )
    told = []
    for day in range(45):
        raise_expiries(database, now + timedelta(days=day, hours=1))
        raise_expiries(database, now + timedelta(days=day, hours=2))
        deliver_due(database, vault, utc_now())
        told += [
            (day, r.json["type"].split(".")[2], r.json["data"]["summary"])
            for r in receiver.received
        ]
        receiver.received.clear()
    ends = f"{now + timedelta(days=40):%Y-%m-%d}"
    assert sorted(told) == sorted(
        (day, kind, f"{what} expires within {days}, on {ends}.")
        for kind, what in (
            ("certificate-expiring", "Certificate “in use”"),
            ("client-secret-expiring", "The client secret of “app”"),
        )
        for day, days in ((10, "30 days"), (33, "7 days"), (39, "a day"))
    )


def test_an_old_backlog_is_told_once_and_so_is_its_end(
    database: Database, session: Session, vault: Vault, receiver: Receiver
) -> None:
    add_webhook(database, vault, receiver.url)
    add_handler(session, "tickets", utc_now())
    limit = timedelta(minutes=15)

    def told_after(age: str | None) -> list[str]:
        session.execute(
            "UPDATE handler_queue SET backlog = 9, oldest_at = now() - %s::interval", (age,)
        )
        for _ in range(2):
            raise_backlogs(database, limit)
        deliver_due(database, vault, utc_now())
        told = [
            request.json["type"].split(".")[2] + ": " + request.json["data"]["summary"][:39]
            for request in receiver.received
        ]
        receiver.received.clear()
        return told

    behind = ["handler-backlog-old: Handler “tickets” is behind: 9 mails wa"]
    assert told_after("5 minutes") == []
    assert told_after("20 minutes") == behind
    assert told_after("21 minutes") == []
    assert told_after(None) == ["handler-backlog-recovered: Handler “tickets” has caught up."]
    assert told_after("20 minutes") == behind


def test_webhooks_have_unique_names_and_keep_their_secrets(
    database: Database, session: Session, vault: Vault, receiver: Receiver
) -> None:
    webhook = add_webhook(database, vault, receiver.url, name="Backup")
    with pytest.raises(Conflict):
        add_webhook(database, vault, receiver.url, name="BACKup")
    assert webhook.has_secret
    assert receiver.url not in repr(webhook)
    dump = session.execute("SELECT url, secret FROM webhook").fetchall()
    assert b"secret-path" not in dump[0][0] + dump[0][1]  # type: ignore[operator]
