"""A grant that the provider took back, from the run that meets it to the text of the webhook."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.scheduler.alerting import deliver_due
from shared.alerts.raised import Template
from shared.clock import utc_now
from shared.storage import scheduling, webhooks
from shared.vault import SecretPath
from tests.integration.oauth.conftest import ALICE
from tests.integration.oauth.test_tokens import age_token, stored_tokens
from tests.integration.oauth.test_vendors_words import Office, open_office
from tests.servers.oidc import OidcServer
from tests.servers.webhooks import Receiver


@pytest.fixture
def office(database_url: str, redis_url: str, tmp_path: Path, oidc: OidcServer) -> Iterator[Office]:
    oidc.settings(accessTokenTTL=3600)
    yield from open_office(database_url, redis_url, tmp_path, oidc)


def listen(office: Office, receiver: Receiver) -> None:
    def seal(column: str, row: int, text: str) -> bytes:
        path = SecretPath(webhooks.WEBHOOK_TABLE, column, str(row))
        return office.stack.vault.seal(text.encode(), path)

    with office.stack.database.transaction() as session:
        webhooks.create_webhook(
            session,
            name="on call",
            url=receiver.url,
            secret="",
            template=Template.JSON,
            seal=seal,
        )


@pytest.mark.promise("H5", "A4")
def test_a_grant_that_is_taken_back_is_told_with_its_reason(
    office: Office, receiver: Receiver
) -> None:
    listen(office, receiver)
    made = office.stack.connection(office.stack.credential(), name="Invoices", enabled=True)
    with office.stack.database.transaction() as session:
        scheduling.enable(session, made.id)
    office.stack.authorise(made)
    office.stack.oidc.revoke(stored_tokens(office.stack, made.id).refresh_token)
    age_token(office.stack, made.id, left=timedelta(seconds=-5))
    outcome = office.run(made)
    assert outcome.health == "needs-authorisation"
    deliver_due(office.stack.database, office.stack.vault, utc_now())
    (request,) = receiver.received
    assert request.json["type"] == "posthouse.alert.connection-needs-authorisation.v1"
    data = request.json["data"]
    assert data["summary"].startswith("Connection “Invoices” needs somebody to authorise it again:")
    assert data["message"] in data["summary"]
    assert len(data["message"]) > 20 and ALICE not in data["message"]
    assert data["hint"]
