"""Events in a JetStream stream of a real nats-server: once, confirmed, under the event's id."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections import Counter

import pytest
from nkeys import PREFIX_BYTE_USER, encode_seed, from_seed

from shared.forward_kinds import ForwardProtocol
from shared.forwarding.endpoint_clients import open_endpoint_client
from shared.forwarding.outcome import ForwardVerdict
from shared.forwards import Endpoint, ForwardOptions
from tests.integration.forwarding.conftest import Rig, mails
from tests.servers.certificates import Authority
from tests.servers.nats import NatsServer
from tests.servers.processes import free_port


@pytest.mark.promise("D1")
@pytest.mark.parametrize("form", ["structured", "binary"])
def test_every_event_is_stored_once_under_its_id(
    rig: Rig, nats_server: NatsServer, form: str
) -> None:
    handler, _ = rig.add(nats_server.url, subject="mail.crm", format=form)
    events = mails(20, text="Grüße")
    rig.publish(handler, events)
    rig.stack.start("forwarder")
    rig.wait(lambda: len(nats_server.messages("MAIL")) >= 20, "all stored")
    assert rig.all_acknowledged(handler)
    stored = nats_server.messages("MAIL")
    by_id = {event.id: json.loads(event.to_json()) for event in events}
    assert sorted(one.headers["Nats-Msg-Id"] for one in stored) == sorted(by_id)
    for one in stored:
        assert one.subject == "mail.crm"
        wanted = by_id[one.headers["Nats-Msg-Id"]]
        if form == "structured":
            assert one.headers["content-type"] == "application/cloudevents+json"
            assert json.loads(one.data) == wanted
        else:
            assert one.headers["ce-id"] == wanted["id"]
            assert one.headers["ce-source"] == wanted["source"]
            assert json.loads(one.data) == wanted["data"]
    assert {line.outcome for line in rig.attempts(handler)} == {"delivered"}


@pytest.mark.promise("D1")
def test_handlers_whose_subjects_lie_in_one_stream_all_get_their_events(
    redis_rig: Rig, nats_server: NatsServer
) -> None:
    """JetStream takes messages of one id for repeats, whatever their subjects."""
    events = mails(12)
    handlers = []
    for name in ("crm", "archive", "search"):
        handler, _ = redis_rig.add(nats_server.url, subject=f"mail.{name}")
        redis_rig.publish(handler, events)
        handlers.append(handler)
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: all(redis_rig.backlog(one) == 0 for one in handlers), "acknowledged")
    stored = Counter(
        (one.subject, json.loads(one.data)["id"]) for one in nats_server.messages("MAIL")
    )
    assert stored == Counter(
        (f"mail.{name}", event.id) for name in ("crm", "archive", "search") for event in events
    )


def test_a_missing_stream_says_what_to_do_and_loses_nothing(
    redis_rig: Rig, nats_server: NatsServer
) -> None:
    handler, _ = redis_rig.add(nats_server.url, subject="post.crm")
    redis_rig.publish(handler, mails(3))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "the failure in the log")
    detail = redis_rig.attempts(handler)[0].detail
    assert "nats stream add" in detail and "post.crm" in detail
    assert redis_rig.backlog(handler) == 3
    nats_server.add_stream("POST", "post.>")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged", 90)
    assert len(nats_server.messages("POST")) == 3


@pytest.mark.parametrize("limit", ["the server's", "the stream's"])
def test_what_is_too_large_goes_by_reference(redis_rig: Rig, limit: str) -> None:
    with NatsServer("max_payload: 16384" if limit == "the server's" else "") as server:
        most = {"max_msg_size": 16384} if limit == "the stream's" else {}
        server.add_stream("MAIL", "mail.>", **most)
        handler, _ = redis_rig.add(server.url, subject="mail.crm", links="signed")
        (event,) = mails(1, text="long " * 8000)
        redis_rig.publish(handler, [event])
        redis_rig.stack.start("forwarder")
        redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
        (stored,) = server.messages("MAIL")
        data = json.loads(stored.data)["data"]
        assert "inline" not in data["raw"]
        assert "sig=" in data["raw"]["url"]
        assert data["sha256"] == event.sha256


def _nkey() -> tuple[str, str]:
    """Seed and public key of a user."""
    import secrets

    seed = encode_seed(secrets.token_bytes(32), PREFIX_BYTE_USER)
    return bytes(seed).decode(), from_seed(bytearray(seed)).public_key.decode()


SEED, PUBLIC = _nkey()
LOGINS = {
    "user": ("user: me, password: 'pa ss'", {"username": "me", "password": "pa ss"}),
    "token": ("token: t0ken", {"token": "t0ken"}),
    "nkey": (f"users: [{{nkey: {PUBLIC}}}]", {"nkey": SEED}),
}
READERS = {
    "user": {"user": "me", "password": "pa ss"},
    "token": {"token": "t0ken"},
    "nkey": {"nkeys_seed_str": SEED},
}


@pytest.mark.parametrize("way", sorted(LOGINS))
def test_it_logs_in(redis_rig: Rig, way: str) -> None:
    config, credentials = LOGINS[way]
    with NatsServer(f"authorization {{ {config} }}", login=READERS[way]) as server:
        server.add_stream("MAIL", "mail.>")
        handler, _ = redis_rig.add(server.url, subject="mail.crm", credentials=credentials)
        wrong, _ = redis_rig.add(server.url, subject="mail.other")
        redis_rig.publish(handler, mails(1))
        redis_rig.publish(wrong, mails(1))
        redis_rig.stack.start("forwarder")
        redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
        redis_rig.wait(lambda: bool(redis_rig.attempts(wrong)), "a refusal in the log")
        assert "authorization" in redis_rig.attempts(wrong)[0].detail.lower()
        assert [one.subject for one in server.messages("MAIL")] == ["mail.crm"]


def test_a_private_authority_and_a_client_certificate(redis_rig: Rig, authority: Authority) -> None:
    server, client = authority.issue("127.0.0.1"), authority.issue("posthouse", client=True)
    config = (
        f'tls {{ cert_file: "{server.certificate}", key_file: "{server.key}", '
        f'ca_file: "{authority.certificate}", verify: true }}'
    )
    import ssl

    context = ssl.create_default_context(cadata=authority.pem)
    context.load_cert_chain(client.certificate, client.key)
    pem = client.certificate.read_text() + client.key.read_text()
    with NatsServer(config, login={"tls": context}) as running:
        running.add_stream("MAIL", "mail.>")
        url = running.url.replace("nats:", "tls:")
        trusted = {"subject": "mail.crm", "ca_certificate": authority.pem}
        good, _ = redis_rig.add(url, client_certificate=pem, **trusted)
        nameless, _ = redis_rig.add(url, **trusted)
        distrusting, _ = redis_rig.add(url, client_certificate=pem, subject="mail.crm")
        for handler in (good, nameless, distrusting):
            redis_rig.publish(handler, mails(1))
        redis_rig.stack.start("forwarder")
        redis_rig.wait(lambda: redis_rig.backlog(good) == 0, "acknowledged")
        for handler in (nameless, distrusting):
            redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "a refusal in the log")  # noqa: B023
            assert redis_rig.attempts(handler)[0].outcome == "failed"
        assert len(running.messages("MAIL")) == 1


@pytest.mark.parametrize(
    "words", [b"INFO ", b"MSG mail.crm 1 99999999999\r\n"], ids=["line", "message"]
)
def test_a_server_that_says_no_end_fills_no_memory(words: bytes) -> None:
    said, ended = 0, threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        nonlocal said
        connection, _ = listener.accept()
        connection.sendall(b'INFO {"server_id":"x","version":"2.9.10","max_payload":99999}\r\n')
        with contextlib.suppress(OSError):
            while b"PING" not in connection.recv(4096):
                pass
            connection.sendall(b"PONG\r\n" + words)
            while said < 256 << 20:
                said += connection.send(b"x" * 65_536)
        connection.close()
        ended.set()

    threading.Thread(target=serve, daemon=True).start()
    address = f"nats://127.0.0.1:{listener.getsockname()[1]}"
    options = ForwardOptions(timeout_seconds=3, subject="mail.crm")
    client = open_endpoint_client(
        Endpoint(kind=ForwardProtocol.NATS, address=address, options=options), None
    )
    outcome = client.send("key", b"{}")
    assert ended.wait(60)
    client.close()
    listener.close()
    assert outcome.verdict is ForwardVerdict.UNAVAILABLE
    assert said < 128 << 20


def test_a_server_that_another_one_names_is_not_connected_to() -> None:
    counted = {"named": 0, "known": 0}
    named, known = (socket.create_server((host, 0)) for host in ("127.0.0.2", "127.0.0.1"))
    info = {"server_id": "x", "version": "2.9.10", "max_payload": 99_999}
    addresses = [f"127.0.0.2:{named.getsockname()[1]}"]

    def serve(name: str, listener: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                counted[name] += 1
                with connection:
                    connection.sendall(b"INFO " + json.dumps(info | urls[name]).encode() + b"\r\n")
                    connection.recv(4096)
                    connection.sendall(answer)

    urls = {"known": {"connect_urls": addresses}, "named": {}}
    for name, listener, answer in (("known", known, b""), ("named", named, b"PONG\r\n")):
        threading.Thread(target=serve, args=(name, listener, answer), daemon=True).start()
    address = f"nats://127.0.0.1:{known.getsockname()[1]}"
    options = ForwardOptions(timeout_seconds=3, subject="mail.crm")
    client = open_endpoint_client(
        Endpoint(kind=ForwardProtocol.NATS, address=address, options=options), None
    )
    outcomes = [client.send("key", b"{}").verdict for _ in range(3)]
    client.close()
    for listener in (named, known):
        listener.close()
    assert outcomes == [ForwardVerdict.UNAVAILABLE] * 3
    assert counted == {"named": 0, "known": 3}


def test_a_server_without_tls_is_told_nothing_where_tls_was_asked_for(redis_rig: Rig) -> None:
    """Who sits between would take the word TLS out of what the server says."""
    port, said = free_port(), bytearray()
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(b'INFO {"server_id":"x","version":"2.9.10","max_payload":99999}\r\n')
            while data := connection.recv(4096):
                said.extend(data)

    threading.Thread(target=serve, daemon=True).start()
    handler, _ = redis_rig.add(
        f"tls://127.0.0.1:{port}",
        subject="mail.crm",
        credentials={"username": "me", "password": "pass-word"},
    )
    redis_rig.publish(handler, mails(1))
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "a refusal in the log")
    listener.close()
    assert "no TLS" in redis_rig.attempts(handler)[0].detail
    assert not said


def test_nothing_is_sent_where_the_host_lists_forbid_it(
    redis_rig: Rig, nats_server: NatsServer
) -> None:
    handler, _ = redis_rig.add(nats_server.url, subject="mail.crm")
    redis_rig.publish(handler, mails(2))
    redis_rig.stack.start("forwarder", settings={"denied_hosts": "127.0.0.0/8"})
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "a refusal in the log")
    assert "not allowed" in redis_rig.attempts(handler)[0].detail
    assert not nats_server.messages("MAIL")


def test_a_creds_file_is_understood() -> None:
    """An operator with JWTs needs a resolver; here what is shown to a server is looked at."""
    from shared.forward_kinds import ForwardProtocol
    from shared.forwarding.nats_client import login_of
    from shared.forwards import Endpoint

    text = (
        "-----BEGIN NATS USER JWT-----\nabc.def.ghi\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
    )
    endpoint = Endpoint(kind=ForwardProtocol.NATS, address="nats://x", credentials={"creds": text})
    from nats.aio.client import Client

    client = Client()
    client._user_credentials = login_of(endpoint)["user_credentials"]
    client._setup_nkeys_jwt_connect()
    assert client._user_jwt_cb is not None and client._signature_cb is not None
    assert bytes(client._user_jwt_cb()) == b"abc.def.ghi"
    signature = base64.b64decode(client._signature_cb("nonce"))
    assert from_seed(bytearray(SEED.encode())).verify(b"nonce", signature)
