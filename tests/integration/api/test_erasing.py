"""A person's mails are erased through the API, by whoever may, and the audit log tells it."""

from __future__ import annotations

import psycopg

from shared.clock import utc_now
from tests.integration.api.conftest import Api
from tests.integration.rows import add_connection, add_message, keep

PERSON = "erika@example.org"


def test_a_person_is_erased_and_not_named_in_the_audit_log(api: Api) -> None:
    store = api.admin.app_state.store
    database_url = api.settings.database_url.get_secret_value()
    with psycopg.connect(database_url, autocommit=True) as session:
        connection = add_connection(session)
        hers, others = keep(store, [b"From: erika\r\n\r\nhers", b"other"], utc_now())
        add_message(session, connection, utc_now(), ref=hers, sender=PERSON)
        kept = add_message(session, connection, utc_now(), ref=others)
    answer = api.http.post("messages/erase", json={"address": "ERIKA@example.org"})
    assert answer.json() == {"messages": 1, "objects": 1, "postponed": 0}
    left = api.http.get("messages").json()["items"]
    assert [item["id"] for item in left] == [str(kept)]
    assert api.http.get(f"messages/{kept}/raw").content == b"other"
    with psycopg.connect(database_url) as session:
        log = session.execute("SELECT action, audit::text FROM audit").fetchall()
    assert sorted(action for action, _ in log) == ["erase", "read mail"]
    assert all(PERSON not in entry.lower() for _, entry in log)


def test_what_is_no_address_is_refused(api: Api) -> None:
    answer = api.http.post("messages/erase", json={"address": "erika"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "address"
