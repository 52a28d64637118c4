"""Handlers, mails and quarantine through the API."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from services.decryptor.event_signing_keys import EventSigningKeys
from shared.clock import utc_now
from shared.messages import RawRef
from shared.storage import deliveries
from tests.integration import rows
from tests.integration.api.conftest import Api
from tests.integration.api.test_connections import problem

#: Where a mail's octets are read, below the mail.
RAW = ("raw", "raw?original=true", "parts/1", "parts/1?original=true")


def add_mail(api: Api, connection_id: int, **more: Any) -> uuid.UUID:
    """A mail of an hour ago in ledger and store; `columns` are set on its row."""
    columns = more.pop("columns", {})
    raw = more.pop("raw", b"Subject: hello\r\n\r\nworld\r\n")
    opened = more.pop("opened", None)
    at = utc_now() - timedelta(hours=1)
    refs = rows.keep(api.admin.app_state.store, [raw] + ([opened] if opened else []), at)
    with api.database.transaction() as session:
        found = rows.add_message(
            session,
            connection_id,
            at,
            ref=refs[0],
            opened=refs[1] if opened else None,
            **more,
        )
    for name, value in columns.items():
        api.execute(f"UPDATE message SET {name} = %(v)s WHERE id = %(id)s", v=value, id=found)
    return found


def quarantine(
    api: Api, entry: uuid.UUID, connection_id: int, ref: RawRef | None = None, key: str = ""
) -> None:
    api.execute(
        "INSERT INTO quarantine (id, connection_id, native_key, uid_validity, code, reason, size, "
        "raw_key, raw_offset) VALUES (%(id)s, %(c)s, %(k)s, 77, 'too-large', 'Too large.', 9, "
        "%(raw)s, 0)",
        id=entry,
        c=connection_id,
        k=key,
        raw=ref.key if ref else None,
    )


@pytest.mark.promise("H1")
def test_a_handler_takes_all_connections_or_chosen_ones(api: Api) -> None:
    made = api.create()
    answer = api.http.post("handlers", json={"name": "archive"})
    assert answer.status_code == 201
    assert answer.json()["connections"] == "all"
    assert answer.json()["redis_stream"] == "posthouse:handler:archive"
    assert answer.json()["token"].startswith("posthouse_")
    path = f"handlers/{answer.json()['id']}"
    assert api.http.get(path).json()["token"] is None
    chosen = api.http.patch(path, json={"connections": [made["id"]]}).json()
    assert chosen["connections"] == [made["id"]]
    assert problem(api.http.patch(path, json={"name": "new"}), 422)["field"] == "name"
    gone = api.http.patch(path, json={"connections": [999_999]})
    assert problem(gone, 422)["field"] == "connections"
    assert problem(api.http.post("handlers", json={"name": "archive"}), 409)["field"] == "name"
    assert problem(api.http.post("handlers", json={"name": "Not OK"}), 422)["field"] == "name"
    assert api.http.delete(path).status_code == 204


def test_a_handlers_signing_key_is_shown_once_and_renewed_with_two_valid(api: Api) -> None:
    made = api.http.post("handlers", json={"name": "signed"}).json()
    path, first = f"handlers/{made['id']}", made["signing_key"]

    def keys() -> list[str]:
        with api.database.transaction() as session:
            found = deliveries.recorded(session, [], uuid.uuid4(), []).targets
            (target,) = [t for t in found if t.handler_id == made["id"]]
        return EventSigningKeys(api.admin.app_state.vault).keys_of(target)

    assert first.startswith("posthouse_signing_")
    assert keys() == [first]
    assert api.http.get(path).json()["signing_key"] is None
    assert first.encode() not in api.execute("SELECT signing_key FROM handler")[0][0]
    renewed = api.http.post(f"{path}/signing-key").json()
    assert renewed["has_former_signing_key"]
    assert keys() == [renewed["signing_key"], first]
    ended = api.http.delete(f"{path}/signing-key/former").json()
    assert ended["signing_key"] is None
    assert not ended["has_former_signing_key"]
    assert keys() == [renewed["signing_key"]]
    assert api.http.delete(path).status_code == 204


@pytest.mark.promise("H1")
def test_a_handlers_backlog_is_shown_and_keeps_it_from_being_deleted(api: Api) -> None:
    made = api.create()
    handler = api.http.post("handlers", json={"name": "busy"}).json()
    path = f"handlers/{handler['id']}"
    add_mail(api, made["id"], published=False)
    api.execute(
        "INSERT INTO handler_queue (handler_id, backlog, dead, oldest_at, checked_at) "
        "VALUES (%(id)s, 3, 1, now() - interval '1 hour', now())",
        id=handler["id"],
    )
    seen = api.http.get(path).json()
    assert (seen["waiting"], seen["queue"]["backlog"], seen["queue"]["dead_letters"]) == (1, 3, 1)
    assert seen["queue"]["oldest_at"]
    problem(api.http.delete(path), 409)
    api.execute("DELETE FROM outbox")
    assert api.http.delete(path, params={"force": True}).status_code == 204


@pytest.mark.promise("H3")
def test_a_mail_is_found_by_what_people_know_of_it(api: Api) -> None:
    made, other = api.create(), api.create()
    columns = {"message_id": "<abc%1@example.org>", "subject": "Rechnung für MÜLLER"}
    mine = str(
        add_mail(
            api, made["id"], sender="boss@example.org", recipients=("me@x.org",), columns=columns
        )
    )
    add_mail(api, other["id"], sender="somebody@else.org")

    def found(**params: Any) -> list[str]:
        items = api.http.get("messages", params=params).json()["items"]
        return [item["id"] for item in items]

    assert found(q="<abc%1@example.org>") == [mine]
    assert found(q="abc%1@example.org") == [mine]
    assert found(q="BOSS@") == [mine]
    assert found(q="me@x") == [mine]
    assert found(q="für müller") == [mine]
    assert found(connection=made["id"]) == [mine]
    assert mine in found(since=(utc_now() - timedelta(hours=2)).isoformat())
    assert mine not in found(since=utc_now().isoformat())
    assert found(q="100%") == []
    assert mine in found(state="published")
    assert mine not in found(state="waiting")
    assert problem(api.http.get("messages", params={"since": "yesterday"}), 422)["field"] == "since"


@pytest.mark.promise("H3", "F4")
def test_mails_are_found_by_kind_attachments_and_thread(api: Api) -> None:
    made = api.create()

    def add(facts: str | None, **columns: Any) -> str:
        return str(add_mail(api, made["id"], columns={"facts": facts, **columns}))

    root = add('{"n": 2}', message_id="<root@x>")
    answer = add('{"k": "auto-reply"}', kind="auto-reply", thread="<root@x>")
    unread = add(None, message_id="<unread@x>")
    unreadable = add('{"x": 1}')
    of_gmail = add("{}", provider_thread="1799", message_id="<g@x>", thread="")

    def found(**params: Any) -> set[str]:
        params["connection"] = made["id"]
        items = api.http.get("messages", params=params).json()["items"]
        return {item["id"] for item in items}

    assert found(kind="auto-reply") == {answer}
    assert found(kind="person") == {root, of_gmail}
    assert found(has_attachment=True) == {root}
    assert found(has_attachment=False) == {answer, of_gmail}
    assert found(thread="<root@x>") == found(thread="root@x") == {root, answer}
    assert found(thread="1799") == {of_gmail}
    assert found(thread="<g@x>") == found(thread="x", kind="bounce") == set()
    assert problem(api.http.get("messages", params={"kind": "spam"}), 422)["field"] == "kind"
    shown = {one: api.http.get(f"messages/{one}").json() for one in (root, answer, unread)}
    assert (shown[root]["kind"], shown[root]["attachments"]) == ("person", 2)
    assert shown[answer]["thread"] == shown[root]["thread"] == "<root@x>"
    unknown = (shown[unread]["kind"], shown[unread]["attachments"], shown[unread]["thread"])
    assert unknown == ("", None, "")
    assert unreadable in found()
    asked = {"connection": made["id"], "thread": "<root@x>", "kind": "auto-reply"}
    assert api.http.post("messages/deliver-again", json=asked).json()["count"] == 1
    assert api.http.post("messages/deliver-again", json={"has_attachment": True}).status_code == 200
    api.execute("DELETE FROM outbox")


def test_pages_of_mails_continue_where_the_last_one_ended(api: Api) -> None:
    made = api.create()
    every = {str(add_mail(api, made["id"])) for _ in range(5)}
    seen: list[str] = []
    before = None
    while True:
        params = {"connection": made["id"], "limit": 2} | ({"before": before} if before else {})
        page = api.http.get("messages", params=params).json()
        seen += [item["id"] for item in page["items"]]
        before = page["next"]
        if before is None:
            break
    assert len(seen) == 5
    assert set(seen) == every


@pytest.mark.promise("H3")
def test_a_mail_shows_its_whole_path(api: Api) -> None:
    made = api.create()
    handler = api.http.post("handlers", json={"name": "path"}).json()
    now = utc_now()
    mail = add_mail(
        api,
        made["id"],
        handler_id=handler["id"],
        columns={
            "arrived_at": now - timedelta(hours=2),
            "settled_at": now,
            "opened_at": now,
            "security": '{"status": "decrypted", "signature": "valid"}',
        },
    )
    seen = api.http.get(f"messages/{mail}").json()
    stops = [stop["what"] for stop in seen["path"]]
    assert stops[:2] == ["arrived", "downloaded"]
    assert sorted(stops[2:]) == ["opened", "published", "settled"]
    assert seen["deliveries"][0]["handler"] == "path"
    assert "signature valid" in next(s["text"] for s in seen["path"] if s["what"] == "opened")
    problem(api.http.get(f"messages/{uuid.uuid4()}"), 404)
    assert "'message_id' is no id" in problem(api.http.get("messages/xyz"), 422)["detail"]
    api.http.delete(f"handlers/{handler['id']}", params={"force": True})


@pytest.mark.promise("H2")
def test_a_handlers_token_opens_no_mail_that_only_lies_where_it_might_have_been_its_own(
    api: Api,
) -> None:
    """Those of before it was there, of another one's of its group, in quarantine, undecided."""
    connection = api.create()["id"]
    body: dict[str, Any] = {"connections": [connection]}
    rules = {"accept": [{"sender": "nobody@example.net"}]}
    takes_all = api.http.post("handlers", json={"name": "takes-all", **body}).json()
    choosy = api.http.post("handlers", json={"name": "choosy", "rules": rules, **body}).json()
    past, waiting = add_mail(api, connection), add_mail(api, connection, published=False)
    quarantined = add_mail(api, connection)
    quarantine(api, quarantined, connection, key="aside")

    def opened(handler: dict[str, Any], mail: uuid.UUID) -> bool:
        with api.as_token(handler["token"]) as client:
            found = {client.get(f"messages/{mail}/{path}").status_code for path in RAW}
        assert found in ({200}, {404})
        return found == {200}

    for handler in (takes_all, choosy):
        assert not opened(handler, past)
        assert not opened(handler, quarantined)
    assert opened(takes_all, waiting)  # it may be told of it before that is recorded
    assert not opened(choosy, waiting)
    decided = "UPDATE outbox SET chosen = %(c)s::bigint[] WHERE message_id = %(id)s"
    api.execute(decided, c=[takes_all["id"]], id=waiting)
    assert not opened(choosy, waiting)
    api.execute(decided, c=[choosy["id"]], id=waiting)
    assert opened(choosy, waiting)
    api.http.patch(f"handlers/{takes_all['id']}", json={"enabled": False})
    assert not opened(takes_all, waiting)
    for handler in (takes_all, choosy):
        api.http.delete(f"handlers/{handler['id']}", params={"force": True})


@pytest.mark.promise("H3")
def test_raw_mail_is_the_opened_form_unless_the_original_is_asked_for(api: Api) -> None:
    made = api.create()
    mail = add_mail(api, made["id"], raw=b"sealed\x00bytes", opened=b"Subject: x\r\n\r\nopen")
    answer = api.http.get(f"messages/{mail}/raw")
    assert answer.content == b"Subject: x\r\n\r\nopen"
    assert answer.headers["content-type"] == "message/rfc822"
    assert answer.headers["content-disposition"].startswith("attachment")
    original = api.http.get(f"messages/{mail}/raw", params={"original": 1})
    assert original.content == b"sealed\x00bytes"
    gone = add_mail(api, made["id"], columns={"raw_key": "raw/2001/01/01/gone"})
    problem(api.http.get(f"messages/{gone}/raw"), 404)


@pytest.mark.promise("H2")
def test_a_handlers_token_opens_its_own_mails_and_nothing_else(api: Api) -> None:
    mine, other = api.create(), api.create()
    handler = api.http.post("handlers", json={"name": "own", "connections": [mine["id"]]}).json()
    own, foreign = add_mail(api, mine["id"], handler_id=handler["id"]), add_mail(api, other["id"])
    with api.as_token(handler["token"]) as client:
        assert client.get(f"messages/{own}/raw").status_code == 200
        problem(client.get(f"messages/{foreign}/raw"), 404)
        problem(client.get(f"messages/{own}"), 403)
        problem(client.get("connections"), 403)
        renewed = api.http.post(f"handlers/{handler['id']}/token").json()
        problem(client.get(f"messages/{own}/raw"), 401)
    with api.as_token(renewed["token"]) as client:
        assert client.get(f"messages/{own}/raw").status_code == 200
    api.http.delete(f"handlers/{handler['id']}", params={"force": True})


@pytest.mark.promise("H3")
def test_mails_are_delivered_again_one_by_one_or_by_a_filter(api: Api) -> None:
    made = api.create()
    handler = api.http.post("handlers", json={"name": "again"}).json()
    mails = [add_mail(api, made["id"], sender=f"s{n}@example.org") for n in range(3)]
    answer = api.http.post(f"messages/{mails[0]}/deliver-again", json={"handlers": [handler["id"]]})
    assert answer.status_code == 202
    queued = "SELECT message_id, initial, repeat_handlers FROM outbox WHERE connection_id = %(c)s"
    assert api.execute(queued, c=made["id"]) == [(mails[0], False, [handler["id"]])]
    done = api.http.post("messages/deliver-again", json={"connection": made["id"]}).json()
    assert done == {"count": 3, "next": None}
    assert {row[0] for row in api.execute(queued, c=made["id"])} == set(mails)
    problem(api.http.post("messages/deliver-again", json={}), 422)
    bad = api.http.post(f"messages/{mails[0]}/deliver-again", json={"handlers": [999]})
    assert problem(bad, 422)["field"] == "handlers"
    api.execute("DELETE FROM outbox")
    api.http.delete(f"handlers/{handler['id']}", params={"force": True})


@pytest.mark.promise("C4")
def test_a_mail_that_could_not_be_decrypted_is_opened_anew_when_delivered_again(api: Api) -> None:
    made = api.create()
    mail = add_mail(
        api,
        made["id"],
        columns={
            "security": '{"status": "no_recipient"}',
            "opened_at": utc_now(),
            "undecrypted": True,
        },
    )
    found = api.http.get("messages", params={"state": "undecrypted", "connection": made["id"]})
    assert [item["id"] for item in found.json()["items"]] == [str(mail)]
    assert api.http.post(f"messages/{mail}/deliver-again").status_code == 202
    opened = api.execute("SELECT security, opened_at FROM message WHERE id = %(id)s", id=mail)
    assert opened == [(None, None)]
    api.execute("DELETE FROM outbox")


@pytest.mark.promise("H4")
def test_a_downloaded_mail_leaves_quarantine_for_the_handlers_or_for_good(api: Api) -> None:
    made = api.create()
    driven, dropped = (add_mail(api, made["id"], columns={"published_at": None}) for _ in "ab")
    for mail in (driven, dropped):
        quarantine(api, mail, made["id"])
    listed = api.http.get("quarantine", params={"connection": made["id"]}).json()
    assert {item["id"] for item in listed["items"]} == {str(driven), str(dropped)}
    assert listed["items"][0]["reason"] == "Too large."
    assert api.http.get(f"messages/{driven}").json()["state"] == "quarantined"
    assert api.http.post(f"quarantine/{driven}/release").status_code == 202
    assert api.http.delete(f"quarantine/{dropped}").status_code == 204
    states = {str(m): api.http.get(f"messages/{m}").json()["state"] for m in (driven, dropped)}
    assert states == {str(driven): "waiting", str(dropped): "dropped"}
    problem(api.http.post(f"quarantine/{driven}/release"), 404)
    api.execute("DELETE FROM outbox")


@pytest.mark.promise("H4")
def test_a_mail_left_on_its_server_is_made_new_again_by_a_re_drive(api: Api) -> None:
    made = api.create()
    entry = uuid.uuid4()
    api.execute(
        "INSERT INTO known_uid VALUES (%(c)s, '', 77, '{[5,9)}'::int8multirange)", c=made["id"]
    )
    quarantine(api, entry, made["id"], key="6")
    assert api.http.get(f"quarantine/{entry}").json()["has_raw"] is False
    problem(api.http.get(f"quarantine/{entry}/raw"), 404)
    answer = api.http.post("quarantine/release", json={"ids": [str(entry), str(uuid.uuid4())]})
    assert answer.json() == {"count": 1}
    left = api.execute("SELECT uids::text FROM known_uid WHERE connection_id = %(c)s", c=made["id"])
    assert left == [("{[5,6),[7,9)}",)]


def test_the_overview_counts_what_there_is(api: Api) -> None:
    made = api.create(enabled=True, acknowledged=True)
    add_mail(api, made["id"], published=False)
    seen = api.http.get("overview").json()
    assert seen["backlog"]["mails"] == 1
    assert seen["backlog"]["oldest_at"]
    assert sum(seen["connections"].values()) >= 1
    assert len(seen["last_hour"]) == 60
    api.execute("DELETE FROM outbox")


@pytest.mark.promise("H1")
def test_rejected_events_of_a_handler_are_out_of_reach_without_its_broker(api: Api) -> None:
    handler = api.http.post("handlers", json={"name": "rejects"}).json()
    answer = api.http.get(f"handlers/{handler['id']}/dead-letters")
    assert answer.status_code in (502, 503)
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.http.get(f"handlers/{handler['id']}").status_code == 200
    problem(api.http.post("handlers/999999/dead-letters/deliver-again"), 404)
