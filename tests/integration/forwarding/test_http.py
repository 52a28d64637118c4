"""Events at an HTTP endpoint: signed, once, acknowledged when they were taken, and not before."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from posthouse.event_data import Redelivery
from shared.clock import utc_now
from shared.forwarding.signed_links import read as read_link
from tests.integration.forwarding.conftest import Rig, ids_of, mails
from tests.servers.certificates import Authority
from tests.servers.verifier import verified
from tests.servers.webhooks import Received, Receiver

Answer = tuple[int, dict[str, str], bytes]


def answering(status: int, **more: str) -> Callable[[Received], Answer]:
    fields = {name.replace("_", "-"): value for name, value in more.items()}
    return lambda _request: (status, fields, b"as the test says")


@pytest.mark.promise("D1")
def test_every_event_comes_once_and_signed(rig: Rig, receiver: Receiver) -> None:
    handler, secret = rig.add(receiver.url, headers={"Authorization": "Bearer of the endpoint"})
    events = mails(40)
    rig.publish(handler, events)
    rig.stack.start("forwarder")
    rig.wait(lambda: len(receiver.received) >= 40, "all posted")
    assert rig.all_acknowledged(handler)
    assert sorted(ids_of(receiver.received)) == sorted(event.id for event in events)
    by_id = {event.id: event for event in events}
    for one in receiver.received:
        Webhook(secret).verify(one.body, one.headers)  # raises where it does not fit
        assert one.headers["authorization"] == "Bearer of the endpoint"
        assert one.body == by_id[one.headers["webhook-id"]].to_json()
    forged = replace(receiver.received[0], body=receiver.received[0].body + b" ")
    told = verified([(secret, one) for one in (*receiver.received, forged)])
    assert told == ["true"] * len(receiver.received) + ["No matching signature found"]
    attempts = rig.attempts(handler)
    assert {(line.outcome, line.status) for line in attempts} == {("delivered", 204)}
    assert sorted(line.event_id for line in attempts) == sorted(by_id)


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_a_cloudevents_sdk_reads_either_form(redis_rig: Rig, receiver: Receiver, form: str) -> None:
    handler, secret = redis_rig.add(receiver.url, format=form)
    (event,) = mails(1, text='Grüße, 100 % "quoted"')
    redis_rig.publish(handler, [event])
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: bool(receiver.received), "the event")
    (one,) = receiver.received
    Webhook(secret).verify(one.body, one.headers)
    read = from_http_event(HTTPMessage(one.headers, one.body))
    wanted = json.loads(event.to_json())
    data = read.get_data()
    assert data == wanted["data"]
    assert (read.get_id(), read.get_source(), read.get_type()) == (
        wanted["id"],
        wanted["source"],
        "posthouse.mail.received.v1",
    )
    assert ("ce-id" in one.headers) is (form == "binary")


def test_while_the_secret_is_renewed_both_verify(redis_rig: Rig, receiver: Receiver) -> None:
    from shared.storage import forwards
    from shared.vault import forward_path
    from shared.webhook_signatures import new_secret

    handler, old = redis_rig.add(receiver.url)
    new, stack = new_secret(), redis_rig.stack

    def seal(column: str, secret: str) -> bytes:
        return stack.vault.seal(secret.encode(), forward_path(column, handler))

    with stack.database.transaction() as session:
        forwards.write_secrets(session, handler, seal("secret", new), seal("former_secret", old))
    redis_rig.publish(handler, mails(1))
    stack.start("forwarder")
    redis_rig.wait(lambda: bool(receiver.received), "the event")
    (one,) = receiver.received
    for secret in (old, new):
        Webhook(secret).verify(one.body, one.headers)


@pytest.mark.promise("D1")
@pytest.mark.parametrize("step", ["taken", "answered", "counted"])
def test_killed_at_any_step_nothing_is_lost(rig: Rig, receiver: Receiver, step: str) -> None:
    """What was on its way is posted again by another forwarder, under the same id."""
    handler, _ = rig.add(receiver.url, concurrency=2)
    events = mails(12)
    if step == "counted":
        refused = {event.id for event in events[:3]}
        first: Counter[str] = Counter()

        def decide(request: Received) -> Answer:
            identifier = request.headers["webhook-id"]
            first[identifier] += 1
            return (500 if identifier in refused and first[identifier] == 1 else 200), {}, b""

        receiver.decide = decide
    rig.publish(handler, events)
    (killed,) = rig.stack.start("forwarder", die_at=f"{step}:{2 if step == 'counted' else 5}")
    rig.wait(lambda: killed.poll() is not None, "the end of the first")
    rig.due_now()
    rig.stack.start("forwarder")
    wanted = {event.id for event in events}
    rig.wait(lambda: set(ids_of(receiver.received)) == wanted, "every event", 90)
    rig.wait(lambda: not rig.stack.query("SELECT FROM forward_retry"), "nothing to be tried again")
    assert rig.all_acknowledged(handler)
    assert rig.dead(handler) == 0
    # At most what two callbacks had in hand comes twice; what was refused, once more.
    assert len(receiver.received) <= len(events) + 2 + 3


def test_410_pauses_and_tells_people(redis_rig: Rig, receiver: Receiver) -> None:
    handler, _ = redis_rig.add(receiver.url, concurrency=1)
    receiver.decide = answering(410)
    redis_rig.publish(handler, mails(5))
    redis_rig.stack.start("forwarder", "forwarder")
    paused = "SELECT pause_reason FROM forward WHERE paused_at IS NOT NULL"
    redis_rig.wait(lambda: bool(redis_rig.stack.query(paused)), "the pause")
    (alert,) = redis_rig.stack.query(
        "SELECT data->>'reason' FROM alert WHERE kind = 'forward-paused'"
    )
    assert alert == ("The endpoint answered 410 Gone.",)
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "the log")
    posted = len(receiver.received)
    assert posted <= 2  # one a forwarder
    receiver.decide = answering(200)
    redis_rig.stack.execute("UPDATE forward SET paused_at = NULL")
    redis_rig.wait(lambda: len(set(ids_of(receiver.received[posted:]))) == 5, "all, once resumed")
    assert redis_rig.all_acknowledged(handler)


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(
    redis_rig: Rig, receiver: Receiver, status: int, form: str
) -> None:
    """Asked for ten minutes, it is left alone, where five seconds come by themselves."""
    handler, _ = redis_rig.add(receiver.url, concurrency=1)
    asked = "600" if form == "seconds" else formatdate(time.time() + 600, usegmt=True)
    receiver.answers.append((status, {"Retry-After": asked}))
    redis_rig.publish(handler, mails(3))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: len(redis_rig.attempts(handler)) == 1, "the refusal in the log")
    assert len(receiver.received) == 1
    redis_rig.stack.stop()
    # Another process knows nothing of what the endpoint asked for.
    redis_rig.due_now()
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: len(set(ids_of(receiver.received))) == 3, "all")
    assert redis_rig.all_acknowledged(handler)


def test_a_retry_after_that_says_nothing_is_a_failure_as_any_other(
    redis_rig: Rig, receiver: Receiver
) -> None:
    """A digit that is none (`²`) went through as an error of ours: in no log, never given up."""
    handler, _ = redis_rig.add(receiver.url, concurrency=1)
    receiver.answers.append((503, {"Retry-After": "\u00b2"}))
    redis_rig.publish(handler, mails(1))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "the refusal in the log")
    assert redis_rig.attempts(handler)[0].status == 503


def test_one_refused_event_holds_no_other_back_and_ends_as_a_dead_letter(
    redis_rig: Rig, receiver: Receiver
) -> None:
    handler, _ = redis_rig.add(receiver.url, retry_for_seconds=60)
    events = mails(20)
    bad = events[0].id

    def decide(request: Received) -> Answer:
        return (500 if request.headers["webhook-id"] == bad else 200), {}, b"no such customer"

    receiver.decide = decide
    redis_rig.publish(handler, events)
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: len(set(ids_of(receiver.received))) == 20, "the others")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 1, "only the refused one waits")
    redis_rig.stack.execute("UPDATE forward_retry SET first_failed_at = now() - interval '1 hour'")
    redis_rig.wait(lambda: redis_rig.dead(handler) == 1, "the dead letter")
    redis_rig.wait(lambda: not redis_rig.stack.query("SELECT FROM forward_retry"), "forgotten")
    (alert,) = redis_rig.stack.query(
        "SELECT data->>'reason' FROM alert WHERE kind = 'forward-gave-up'"
    )
    assert "The endpoint answered 500." in alert[0]
    (letter,) = redis_rig.output.dead(redis_rig.names[handler], 10)
    assert letter.event_id == bad
    assert "The endpoint answered 500." in letter.reason
    failed = [line for line in redis_rig.attempts(handler) if line.event_id == bad]
    assert [line.outcome for line in failed][-1] == "dead"
    assert failed[0].answer == "no such customer"


def test_an_endpoint_that_never_answers_delays_no_other(
    redis_rig: Rig, receiver: Receiver, second_receiver: Receiver
) -> None:
    hanging = threading.Event()

    def decide(_request: Received) -> Answer:
        hanging.wait(60)
        return 200, {}, b""

    receiver.decide = decide
    slow, _ = redis_rig.add(receiver.url, timeout_seconds=60)
    quick, _ = redis_rig.add(second_receiver.url)
    redis_rig.publish(slow, mails(50))
    redis_rig.publish(quick, mails(50))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: len(set(ids_of(second_receiver.received))) == 50, "the other's")
    redis_rig.wait(lambda: redis_rig.backlog(quick) == 0, "acknowledged")
    assert redis_rig.backlog(slow) == 50
    hanging.set()


@pytest.mark.promise("D1")
def test_down_and_up_again_nothing_is_lost(rig: Rig, receiver: Receiver) -> None:
    handler, _ = rig.add(receiver.url)
    events = mails(30)
    receiver.decide = answering(503)
    rig.publish(handler, events)
    rig.stack.start("forwarder")
    rig.wait(lambda: len(receiver.received) >= 2, "a probe after the first failure", 90)
    # An endpoint that fails is left alone: no flood of attempts.
    assert len(receiver.received) <= 8 + 3
    receiver.decide = None
    wanted = {event.id for event in events}
    rig.wait(lambda: wanted <= set(ids_of(receiver.received)), "all of them", 90)
    rig.wait(
        lambda: not rig.stack.query("SELECT FROM forward_retry"), "nothing to be tried again", 120
    )
    assert set(ids_of(receiver.received)) == wanted
    assert rig.all_acknowledged(handler)
    assert rig.dead(handler) == 0


@pytest.mark.parametrize("said", ["by the option", "by 413"])
def test_what_is_too_large_goes_by_reference(redis_rig: Rig, receiver: Receiver, said: str) -> None:
    limit = {"max_bytes": 8192} if said == "by the option" else {}
    handler, _ = redis_rig.add(receiver.url, links="signed", **limit)
    (event,) = mails(1, text="long " * 8000)
    if said == "by 413":
        receiver.decide = lambda one: (413 if len(one.body) > 30_000 else 200, {}, b"")
    redis_rig.publish(handler, [event])
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    sent = json.loads(receiver.received[-1].body)
    raw = sent["data"]["raw"]
    assert "inline" not in raw
    path, _, query = raw["url"].partition("?")
    claim = read_link(path[path.index("/api/") :], query)
    assert claim is not None
    assert (claim.handler_id, str(claim.message_id)) == (handler, event.id)
    assert sent["data"]["sha256"] == event.sha256
    assert sent["data"]["mail"]["text_truncated"] is True
    assert len(receiver.received[-1].body) < 8192
    assert base64.b64encode(event.raw.inline or b"")[:100] not in receiver.received[-1].body


def test_nothing_is_sent_where_the_host_lists_forbid_it(redis_rig: Rig, receiver: Receiver) -> None:
    handler, _ = redis_rig.add(receiver.url)
    redis_rig.publish(handler, mails(2))
    redis_rig.stack.start("forwarder", settings={"denied_hosts": "127.0.0.0/8"})
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "a refusal in the log")
    assert "POSTHOUSE_DENIED_HOSTS" in redis_rig.attempts(handler)[0].detail
    assert not receiver.received
    assert redis_rig.backlog(handler) == 2


def test_a_redirect_is_not_followed(
    redis_rig: Rig, receiver: Receiver, second_receiver: Receiver
) -> None:
    handler, _ = redis_rig.add(receiver.url)
    receiver.decide = answering(307, location=second_receiver.url)
    redis_rig.publish(handler, mails(1))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "the attempt in the log")
    attempt = redis_rig.attempts(handler)[0]
    assert (attempt.status, attempt.outcome) == (307, "failed")
    assert not second_receiver.received
    assert not redis_rig.all_acknowledged(handler), "it counts as taken"


def test_what_nobody_signed_is_not_passed_on(redis_rig: Rig, receiver: Receiver) -> None:
    """Who reaches the broker and puts an event there speaks in nobody's name."""
    from shared.queueing.output import Publication

    handler, _ = redis_rig.add(receiver.url)
    (forged, honest) = mails(2)
    name = redis_rig.names[handler]
    redis_rig.output.publish([Publication(name, forged.to_json(), forged.id, "")])
    redis_rig.publish(handler, [honest])
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.dead(handler) == 1, "the dead letter")
    redis_rig.wait(lambda: bool(receiver.received), "the honest one")
    assert ids_of(receiver.received) == [honest.id]


def test_a_private_authority_and_a_client_certificate(redis_rig: Rig, authority: Authority) -> None:
    server, client = authority.issue("127.0.0.1"), authority.issue("posthouse", client=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(cadata=authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    receiver = Receiver()
    receiver.secure(context)
    with receiver:
        url = f"https://127.0.0.1:{receiver.port}/hook"
        pem = client.certificate.read_text() + client.key.read_text()
        good, secret = redis_rig.add(
            url, ca_certificate=authority.pem, client_certificate=pem, timeout_seconds=5
        )
        nameless, _ = redis_rig.add(url, ca_certificate=authority.pem, timeout_seconds=5)
        distrusting, _ = redis_rig.add(url, client_certificate=pem, timeout_seconds=5)
        (event,) = mails(1)
        for handler in (good, nameless, distrusting):
            redis_rig.publish(handler, [event])
        redis_rig.stack.start("forwarder")
        redis_rig.wait(lambda: redis_rig.backlog(good) == 0, "acknowledged")
        for handler in (nameless, distrusting):
            redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "a refusal in the log")  # noqa: B023
            assert redis_rig.attempts(handler)[0].outcome == "failed"
    (one,) = receiver.received
    Webhook(secret).verify(one.body, one.headers)


def test_an_answer_that_comes_too_late_is_a_repeat_with_the_same_id(
    redis_rig: Rig, receiver: Receiver
) -> None:
    """The endpoint had the event, and nobody can know: it comes again."""
    late = threading.Event()

    def decide(_request: Received) -> Answer:
        if len(receiver.received) == 1:
            late.wait(60)
        return 200, {}, b""

    receiver.decide = decide
    handler, _ = redis_rig.add(receiver.url, timeout_seconds=1, concurrency=1)
    (event,) = mails(1)
    redis_rig.publish(handler, [event])
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    late.set()
    assert ids_of(receiver.received) == [event.id] * 2
    assert redis_rig.attempts(handler)[0].detail == "No answer in time."


def test_an_endpoint_that_ends_every_connection_costs_no_attempt(
    redis_rig: Rig, receiver: Receiver
) -> None:
    receiver.decide = answering(200, connection="close")
    handler, _ = redis_rig.add(receiver.url, concurrency=1)
    redis_rig.publish(handler, mails(5))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    redis_rig.wait(lambda: len(redis_rig.attempts(handler)) == 5, "the log")
    assert {line.outcome for line in redis_rig.attempts(handler)} == {"delivered"}
    assert len(receiver.received) == 5


def test_what_is_delivered_on_purpose_has_a_key_of_its_own(
    redis_rig: Rig, receiver: Receiver
) -> None:
    """A receiver that keeps the ids it had would otherwise leave out what somebody asked for."""
    (event,) = mails(1)
    asked = replace(event, redelivery=Redelivery(2, utc_now(), "requested"))
    handler, secret = redis_rig.add(receiver.url)
    redis_rig.publish(handler, [asked])
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: bool(receiver.received), "the event")
    (one,) = receiver.received
    assert one.headers["webhook-id"] == f"{event.id}/2"
    Webhook(secret).verify(one.body, one.headers)
